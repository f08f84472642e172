// Malformed registries.conf files.

import { describe, expect, test } from "vitest";
import { FormatError } from "../../shared/error.ts";
import { makeConfigPlace } from "../../test/support/config-place.ts";
import { readRegistriesConf } from "./registries-conf-files.ts";

const MAIN = "/etc/containers/registries.conf";

const readText = (text: string) => readRegistriesConf(makeConfigPlace({ [MAIN]: text }));

describe("malformed files are refused with file, key and advice", () => {
  const table = (text: string) => `[[registry]]\n${text}\n`;
  const mirror = (text: string, before = "") =>
    `[[registry]]\nlocation = "q.io"\n${before}\n[[registry.mirror]]\n${text}\n`;

  test.each([
    ["no TOML", "a = ", /it is not TOML: .* at row 1/],
    ["an unclosed text", `a = "http://me:secret`, /it is not TOML: Unterminated string.*/],
    ["a key twice", "a = 1\na = 2", /Can't redefine existing key/],
    [
      "a key twice in two cases",
      table(`location = "a.b"\nLocation = "c.d"`),
      /"location" is there/,
    ],
    ["another type", table(`location = 1`), /"registry\.0\.location": .*string/],
    ["a word for a boolean", table(`location = "a.b"\nblocked = "yes"`), /"registry\.0\.blocked"/],
    ["a table for a list", `[registry]\nlocation = "a.b"`, /"registry": .*array/],
    ["nothing", table(""), /registry 1 has neither "prefix" nor "location"/],
    ["no location", table(`prefix = "a.b"`), /\(prefix "a.b"\) has no "location"; add it/],
    ["a URL", table(`location = "https://a.b"`), /registry 1, "location": .*leave it out/],
    ["a bad host", table(`location = "a..b"`), /"a\.\.b" is not a host name/],
    ["a bad port", table(`location = "a.b:x"`), /"x" is not a port/],
    ["upper case", table(`location = "a.b/C"`), /lower case/],
    ["a wildcard in the middle", table(`prefix = "a.*.b"\nlocation = "c.d"`), /not a host name/],
    ["a wildcard with a path", table(`prefix = "*.b.c/d"`), /"\*\." goes before a host name alone/],
    ["a wildcard with a port", table(`prefix = "*.b.c:1"`), /goes before a host name alone/],
    ["a wildcard alone", table(`prefix = "*."`), /registry 1/],
    [
      "a mirror's setting",
      table(`location = "a.b"\npull-from-mirror = "all"`),
      /belongs into a "\[\[/,
    ],
    ["a mirror without location", mirror(`insecure = true`), /a mirror of prefix "q.io" has no/],
    ["an unknown choice", mirror(`location = "m"\npull-from-mirror = "never"`), /pull-from-mirror/],
    [
      "two rules for mirrors",
      mirror(`location = "m"\npull-from-mirror = "all"`, "mirror-by-digest-only = true"),
      /has "mirror-by-digest-only", its mirror "m" also "pull-from-mirror"; keep one/,
    ],
    ["no proxy", table(`location = "a.b"\nproxy = "ftp://me:secret"`), /"proxy" of prefix "a\.b"/],
    [
      "contradictions",
      table(`prefix = "a.b/c"\nlocation = "x.y"\nblocked = true`) + table(`location = "x.y"`),
      /"x\.y" is there twice with different "blocked"/,
    ],
    [
      "a search host with a path",
      `unqualified-search-registries = ["a.b/c"]`,
      /"unqualified-search/,
    ],
    ["an empty search host", `unqualified-search-registries = [""]`, /"unqualified-search/],
    ["a mode", `short-name-mode = "always"`, /"short-name-mode"/],
    [
      "an alias with a registry",
      `[aliases]\n"a.b/c" = "d.e/f"`,
      /alias "a\.b\/c".*not have a registry/,
    ],
    ["an alias with a tag", `[aliases]\n"c:1" = "d.e/f"`, /alias "c:1".*not have a tag/],
    ["an alias to a tag", `[aliases]\nc = "d.e/f:1"`, /alias "c".*must not have a tag/],
    ["an alias to a short name", `[aliases]\nc = "d/f"`, /alias "c".*does not name a registry/],
    ["an alias to nonsense", `[aliases]\nc = "D"`, /alias "c"/],
  ])("%s", (_name, text, message) => {
    expect(() => readText(text)).toThrow(FormatError);
    expect(() => readText(text)).toThrow(message);
    expect(() => readText(text)).toThrow(/^Cannot read ".*\/etc\/containers\/registries\.conf": /);
    expect(() => readText(text)).not.toThrow(/secret/);
  });

  test("bytes that are no UTF-8", () => {
    const place = makeConfigPlace({ [MAIN]: new Uint8Array([0x61, 0xff]) });
    expect(() => readRegistriesConf(place)).toThrow(/is not UTF-8 text/);
  });

  test("a file larger than any", () => {
    const place = makeConfigPlace({ [MAIN]: "#".repeat((8 << 20) + 1) });
    expect(() => readRegistriesConf(place)).toThrow(/is larger than/);
  });

  test("values nested deeper than anything that is read", () => {
    const depth = 5000;
    expect(readText(`new = ${"[".repeat(6)}1${"]".repeat(6)}`).registries).toEqual([]);
    try {
      readText(`new = ${"[".repeat(depth)}${"]".repeat(depth)}`);
    } catch (error) {
      expect(error).toBeInstanceOf(FormatError);
    }
  });

  test("unknown keys are passed over", () => {
    const { registries } = readText(`new-key = 1\n${table(`location = "a.b"\nnew = []`)}`);
    expect(registries).toMatchObject([{ prefix: "a.b", mirrors: [] }]);
  });
});
