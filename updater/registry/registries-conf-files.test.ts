// The files of registries.conf: which are read, and how they are merged.

import { expect, test } from "vitest";
import { StateError } from "../../shared/error.ts";
import { makeConfigPlace } from "../../test/support/config-place.ts";
import { EMPTY_REGISTRIES_CONF } from "./registries-conf.ts";
import { readRegistriesConf } from "./registries-conf-files.ts";

const MAIN = "/etc/containers/registries.conf";
const DROP_INS = "/etc/containers/registries.conf.d";

const readText = (text: string) => readRegistriesConf(makeConfigPlace({ [MAIN]: text }));
const insecure = (location: string) => `[[registry]]\nlocation = "${location}"\ninsecure = true\n`;
const prefixes = (...args: Parameters<typeof makeConfigPlace>) =>
  readRegistriesConf(makeConfigPlace(...args)).registries.map(({ prefix }) => prefix);

test("none", () => {
  expect(readRegistriesConf(makeConfigPlace({}))).toEqual(EMPTY_REGISTRIES_CONF);
});

test("of main files the most local counts alone", () => {
  const files = {
    "/usr/share/containers/registries.conf": insecure("usr"),
    [MAIN]: insecure("etc"),
    "/users/u/.config/containers/registries.conf": insecure("home"),
    "/xdg/containers/registries.conf": insecure("xdg"),
  };
  const { [MAIN]: _, ...onlyUsr } = files;
  expect(prefixes(onlyUsr)).toEqual(["usr"]);
  expect(prefixes(files)).toEqual(["etc"]);
  expect(prefixes(files, { HOME: "ROOT/users/u" })).toEqual(["home"]);
  expect(prefixes(files, { HOME: "ROOT/users/u", XDG_CONFIG_HOME: "ROOT/xdg" })).toEqual(["xdg"]);
  // Services run without $HOME; root's is known all the same.
  expect(prefixes({ "/root/.config/containers/registries.conf": insecure("r") })).toEqual(["r"]);
  expect(prefixes({ "/root/.config/containers/registries.conf": insecure("r") }, {}, 1000)).toEqual(
    [],
  );
});

test("drop-ins come after it, by name, of one name the most local alone", () => {
  const table = (location: string) => `[[registry]]\nprefix = "p"\nlocation = "${location}"\n`;
  const files = {
    [MAIN]: `${table("main")}${insecure("kept")}`,
    "/usr/share/containers/registries.conf.d/10-a.conf": `${table("usr10")}${insecure("usr10")}`,
    "/usr/share/containers/registries.conf.d/50-b.conf": table("usr50"),
    [`${DROP_INS}/10-a.conf`]: table("etc10"),
    [`${DROP_INS}/40-c.conf`]: table("etc40"),
    [`${DROP_INS}/60-d.conf.off`]: table("off"),
    [`${DROP_INS}/directory.conf/x.conf`]: table("inside"),
    "/root/.config/containers/registries.conf.d/30-e.conf": table("root30"),
  };
  const { registries } = readRegistriesConf(makeConfigPlace(files));
  expect(registries.map(({ prefix, location }) => [prefix, location])).toEqual([
    ["kept", "kept"],
    ["p", "usr50"],
  ]);
  expect(registries[1]!.source).toMatch(/\/usr\/share\/containers\/registries.conf.d\/50-b.conf$/);
});

test("there are directories for root and for users", () => {
  const files = {
    "/etc/containers/registries.rootful.conf.d/1.conf": insecure("root"),
    "/usr/share/containers/registries.rootless.conf.d/2.conf": insecure("users"),
    "/etc/containers/registries.rootless.conf.d/1000/3.conf": insecure("user-1000"),
  };
  expect(prefixes(files)).toEqual(["root"]);
  expect(prefixes(files, {}, 1000)).toEqual(["user-1000", "users"]);
  expect(prefixes(files, {}, 1001)).toEqual(["users"]);
});

test("drop-ins change values and leave the others", () => {
  const files = {
    [MAIN]: `
        unqualified-search-registries = ["a.io", "b.io"]
        short-name-mode = "enforcing"
        credential-helpers = ["pass"]
        [aliases]
        x = "a.io/x"
        y = "a.io/y"
      `,
    [`${DROP_INS}/1.conf`]: `
        short-name-mode = ""
        credential-helpers = []
        [aliases]
        x = "b.io/x"
      `,
    [`${DROP_INS}/2.conf`]: `unqualified-search-registries = ["c.io"]\n[aliases]\ny = ""\n`,
    [`${DROP_INS}/3.conf`]: "",
  };
  const conf = readRegistriesConf(makeConfigPlace(files));
  expect(conf.searchRegistries).toMatchObject({ hosts: ["c.io"] });
  expect(conf.searchRegistries!.source).toMatch(/2\.conf$/);
  expect(conf.shortNameMode).toBe("enforcing");
  expect(conf.credentialHelpers).toEqual(["containers-auth.json"]);
  expect([...conf.aliases].map(([name, alias]) => [name, alias.name])).toEqual([["x", "b.io/x"]]);
});

test("variables replace the files, and come last", () => {
  const files = {
    [MAIN]: insecure("etc"),
    [`${DROP_INS}/1.conf`]: insecure("drop-in"),
    "/mine/main.conf": insecure("mine"),
    "/mine/d/1.conf": insecure("mine-drop-in"),
    "/mine/over.conf": insecure("over"),
  };
  const variable = "CONTAINERS_REGISTRIES_CONF";
  const main = { [variable]: "ROOT/mine/main.conf" };
  const directory = { [`${variable}_DIR`]: "ROOT/mine/d" };
  const override = { [`${variable}_OVERRIDE`]: "ROOT/mine/over.conf" };
  expect(prefixes(files)).toEqual(["drop-in", "etc"]);
  expect(prefixes(files, main)).toEqual(["mine"]);
  expect(prefixes(files, { ...main, ...directory })).toEqual(["mine", "mine-drop-in"]);
  expect(prefixes(files, directory)).toEqual(["etc", "mine-drop-in"]);
  expect(prefixes(files, override)).toEqual(["drop-in", "etc", "over"]);
  expect(prefixes(files, { ...main, ...override })).toEqual(["mine", "over"]);
  expect(() => prefixes(files, { [variable]: "ROOT/nowhere" })).toThrow(StateError);
  expect(() => prefixes(files, { [`${variable}_OVERRIDE`]: "ROOT/nowhere" })).toThrow(
    /which \$CONTAINERS_REGISTRIES_CONF_OVERRIDE names, is not there/,
  );
});

test("the format of version 1 is read in a main file, not in a drop-in", () => {
  const old = `
      [registries.search]
      registries = ['quay.io', 'docker.io']
      [registries.insecure]
      registries = ['plain.example', 'both.example']
      [registries.block]
      registries = ['bad.example', 'both.example']
    `;
  const conf = readRegistriesConf(makeConfigPlace({ [MAIN]: old }));
  expect(conf.searchRegistries!.hosts).toEqual(["quay.io", "docker.io"]);
  expect(
    conf.registries.map(({ prefix, insecure, isBlocked }) => [prefix, insecure, isBlocked]),
  ).toEqual([
    ["bad.example", false, true],
    ["both.example", true, true],
    ["plain.example", true, false],
  ]);
  expect(() => readRegistriesConf(makeConfigPlace({ [`${DROP_INS}/1.conf`]: old }))).toThrow(
    /old version 1 format; write "unqualified-search-registries/,
  );
  expect(() => readText(`[registries.block]\nregistries = [""]`)).toThrow(/an empty name/);
  expect(() => readText(`unqualified-search-registries = []\n${old}`)).toThrow(
    /exclude each other/,
  );
});
