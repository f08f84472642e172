// Credentials: which file, which entry, which helper.

import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FormatError, StateError, UnsupportedError } from "../../shared/error.ts";
import { makeConfigPlace } from "../../test/support/config-place.ts";
import type { ConfigPlace } from "./config-place.ts";
import { findCredentials, readCredentialSources } from "./credentials.ts";
import { EMPTY_REGISTRIES_CONF } from "./registries-conf.ts";

const encode = (text: string) => Buffer.from(text).toString("base64");
const entry = (user: string) => ({ auth: encode(`${user}:pw-${user}`) });
const file = (auths: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  JSON.stringify({ auths, ...more });
const RUN = "/run/containers/0/auth.json";

/** The user name found, "token …", or null. */
async function find(
  place: ConfigPlace,
  name: string,
  helpers = EMPTY_REGISTRIES_CONF.credentialHelpers,
): Promise<string | null> {
  const sources = readCredentialSources(place, {
    ...EMPTY_REGISTRIES_CONF,
    credentialHelpers: helpers,
  });
  const [host, ...path] = name.split("/");
  const found = await findCredentials(sources, host!, path.join("/"));
  if (found === null) return null;
  return found.kind === "basic" ? found.username : `token ${found.token}`;
}

describe("entries", () => {
  const place = () =>
    makeConfigPlace({
      [RUN]: file({
        "q.io": entry("host"),
        "q.io/a": entry("namespace"),
        "q.io/a/b": entry("repository"),
        "localhost:5000": entry("port"),
        "https://old.io/v1/": entry("url"),
        "http://plain.io": entry("plain"),
        "https://index.docker.io/v1/": entry("hub"),
        "docker.io/mine": entry("hub-namespace"),
        "Case.io": entry("case"),
        "token.io": { auth: encode("00000000:"), identitytoken: "t0ken" },
        "empty.io": {},
        "null.io": { auth: null },
      }),
    });

  test.each([
    ["q.io/a/b", "repository"],
    ["q.io/a/b/c", "repository"],
    ["q.io/a/bc", "namespace"],
    ["q.io/x", "host"],
    ["q.io.evil/x", null],
    ["xq.io/x", null],
    ["localhost:5000/x", "port"],
    ["localhost/x", null],
    ["old.io/x", "url"],
    ["plain.io/x", "plain"],
    ["docker.io/library/debian", "hub"],
    ["docker.io/mine/x", "hub-namespace"],
    ["case.io/x", "case"],
    ["token.io/x", "token t0ken"],
    ["empty.io/x", null],
    ["null.io/x", null],
  ])("%s: %s", async (name, expected) => {
    expect(await find(place(), name)).toBe(expected);
  });

  test.each([["docker.io"], ["index.docker.io"], ["registry-1.docker.io"]])(
    "Docker Hub is also %s",
    async (key) => {
      const other = makeConfigPlace({ [RUN]: file({ [key]: entry("hub") }) });
      expect(await find(other, "docker.io/library/debian")).toBe("hub");
    },
  );

  test.each([
    ["me:a:b:c", "me", "a:b:c"],
    ["me:", "me", ""],
    ["me:pw\0\0", "me", "pw"],
    ["me:pässwörd", "me", "pässwörd"],
  ])("%j", async (text, username, password) => {
    const place = makeConfigPlace({ [RUN]: file({ "q.io": { auth: encode(text) } }) });
    const sources = readCredentialSources(place, EMPTY_REGISTRIES_CONF);
    const expected = { kind: "basic", username, password };
    expect(await findCredentials(sources, "q.io", "x")).toEqual(expected);
  });

  test.each([
    ["no colon", encode("secret")],
    ["no base64", "secret!"],
    ["base64 without its end", encode("me:secrets").replace(/=+$/, "")],
    ["no text", Buffer.from([0x61, 0x3a, 0xff]).toString("base64")],
  ])("%s: the file and the key are named, nothing else", async (_name, auth) => {
    const place = makeConfigPlace({ [RUN]: file({ "q.io": { auth }, "ok.io": entry("ok") }) });
    await expect(find(place, "q.io/x")).rejects.toThrow(
      /^"auth" of "q.io" in ".*\/run\/containers\/0\/auth.json" is not base64 of "user:password"; log in again/,
    );
    expect(await find(place, "ok.io/x")).toBe("ok");
  });
});

describe("files", () => {
  /** Every place, in the order in which they count. */
  const ORDER = [
    "/run/ostree/auth.json",
    "/run/user/0/containers/auth.json",
    RUN,
    "/root/.config/containers/auth.json",
    "/root/.docker/config.json",
    "/root/.dockercfg",
  ];
  const environment = { XDG_RUNTIME_DIR: "ROOT/run/user/0" };
  const write = (paths: readonly string[]) =>
    Object.fromEntries(
      paths.map((path) => {
        const auths = { "q.io": entry(path), [`q.io/only/in${path.replaceAll(/\W/g, "")}`]: {} };
        return [path, path.endsWith("cfg") ? JSON.stringify(auths) : file(auths)];
      }),
    );

  test.each(ORDER.map((path, index) => [path, index] as const))(
    "%s is asked as number %i",
    async (path, index) => {
      expect(await find(makeConfigPlace(write(ORDER.slice(index)), environment), "q.io/x")).toBe(
        path,
      );
    },
  );

  test("of bootc's places the first counts alone, podman's are asked as well", async () => {
    const place = makeConfigPlace({
      "/etc/ostree/auth.json": file({ "etc.io": entry("etc") }),
      "/usr/lib/ostree/auth.json": file({ "usr.io": entry("usr"), "etc.io": entry("wrong") }),
      [RUN]: file({ "run.io": entry("run"), "etc.io": entry("wrong") }),
    });
    expect(await find(place, "etc.io/x")).toBe("etc");
    expect(await find(place, "usr.io/x")).toBe(null);
    expect(await find(place, "run.io/x")).toBe("run");
  });

  test("users have places of their own", async () => {
    const files = write([...ORDER, "/users/u/.config/ostree/auth.json"]);
    expect(await find(makeConfigPlace(files, { HOME: "ROOT/users/u" }, 1000), "q.io/x")).toBe(
      "/users/u/.config/ostree/auth.json",
    );
    const runtime = { "/run/user/1000/ostree/auth.json": file({ "q.io": entry("runtime") }) };
    const place = makeConfigPlace(runtime, { XDG_RUNTIME_DIR: "ROOT/run/user/1000" }, 1000);
    expect(await find(place, "q.io/x")).toBe("runtime");
  });

  test("$REGISTRY_AUTH_FILE counts alone and must be there", async () => {
    const files = { ...write(ORDER), "/mine.json": file({ "mine.io": entry("mine") }) };
    const place = makeConfigPlace(files, { REGISTRY_AUTH_FILE: "ROOT/mine.json" });
    expect(await find(place, "mine.io/x")).toBe("mine");
    expect(await find(place, "q.io/x")).toBe(null);
    const missing = makeConfigPlace(files, { REGISTRY_AUTH_FILE: "ROOT/nowhere.json" });
    await expect(find(missing, "q.io/x")).rejects.toThrow(StateError);
    await expect(find(missing, "q.io/x")).rejects.toThrow(/which \$REGISTRY_AUTH_FILE names/);
  });

  test("$DOCKER_CONFIG and $XDG_CONFIG_HOME move directories", async () => {
    const files = {
      "/d/config.json": file({ "d.io": entry("d") }),
      "/x/containers/auth.json": file({ "x.io": entry("x") }),
    };
    const place = makeConfigPlace(files, { DOCKER_CONFIG: "ROOT/d", XDG_CONFIG_HOME: "ROOT/x" });
    expect(await find(place, "d.io/x")).toBe("d");
    expect(await find(place, "x.io/x")).toBe("x");
  });

  test(".dockercfg has API URLs for keys, and no namespaces", async () => {
    const place = makeConfigPlace({
      "/root/.dockercfg": JSON.stringify({
        "https://q.io/v1/": entry("url"),
        "p.io/a/b": entry("path"),
        "https://index.docker.io/v1/": entry("hub"),
      }),
    });
    expect(await find(place, "q.io/x")).toBe("url");
    expect(await find(place, "p.io/x")).toBe("path");
    expect(await find(place, "docker.io/x/y")).toBe("hub");
  });

  test.each([
    [
      "no JSON",
      `{"auths": {"q.io": {"auth": secret}}}`,
      /it is not JSON; an empty file of this kind/,
    ],
    ["nothing", "", /it is not JSON/],
    ["no UTF-8", new Uint8Array([0xff]), /it is not JSON/],
    ["a list", "[]", /Cannot read ".*": "":? ?/],
    ["a text for an entry", `{"auths": {"q.io": "secret"}}`, /"auths\.q\.io"/],
    ["a number for auth", `{"auths": {"q.io": {"auth": 7}}}`, /"auths\.q\.io\.auth"/],
    ["a list of helpers", `{"credHelpers": ["pass"]}`, /"credHelpers"/],
  ])("%s is refused with file and key", async (_name, content, message) => {
    const place = makeConfigPlace({ [RUN]: content });
    await expect(find(place, "q.io/x")).rejects.toThrow(FormatError);
    await expect(find(place, "q.io/x")).rejects.toThrow(message);
    const error = await find(place, "q.io/x").catch((error: Error) => error);
    expect(Bun.inspect(error)).not.toContain("secret");
  });

  test("a damaged file is no matter when one before it answers", async () => {
    const place = makeConfigPlace({
      "/etc/ostree/auth.json": file({ "q.io": entry("etc") }),
      "/root/.docker/config.json": "damaged",
    });
    expect(await find(place, "q.io/x")).toBe("etc");
    await expect(find(place, "p.io/x")).rejects.toThrow(/config\.json": it is not JSON/);
  });

  test("nothing at all", async () => {
    expect(await find(makeConfigPlace({}), "q.io/x")).toBe(null);
    expect(await find(makeConfigPlace({ [RUN]: "{}" }), "q.io/x")).toBe(null);
    expect(await find(makeConfigPlace({ [RUN]: `{"auths": null}` }), "q.io/x")).toBe(null);
  });

  test("names that JavaScript knows are nothing special", async () => {
    const place = makeConfigPlace({ [RUN]: `{"auths": {"__proto__": {"auth": "x"}}}` });
    expect(await find(place, "constructor/x")).toBe(null);
    expect(await find(place, "__proto__/x")).toBe(null);
  });
});

/** Adds "docker-credential-NAME", a shell script, to the place's $PATH. */
function addHelper(place: ConfigPlace, name: string, script: string): ConfigPlace {
  const directory = join(place.root, "bin");
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `docker-credential-${name}`);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return { ...place, environment: { ...place.environment, PATH: `${directory}:/usr/bin:/bin` } };
}

const ANSWER = `server=$(cat); printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' "$server" "$1 $server"`;
const NOT_FOUND = `echo "credentials not found in native keychain"; exit 1`;

describe("helpers", () => {
  test("one for a host is asked instead of the file's entries", async () => {
    const content = file(
      { "q.io/x": entry("entry"), "p.io": entry("p") },
      { credHelpers: { "q.io": "test" } },
    );
    const place = addHelper(makeConfigPlace({ [RUN]: content }), "test", ANSWER);
    expect(await find(place, "q.io/x")).toBe("get q.io");
    expect(await find(place, "p.io/x")).toBe("p");
    expect(await find(place, "other.io/x")).toBe(null);
  });

  test("it is asked by the key that names it", async () => {
    const credHelpers = { "https://index.docker.io/v1/": "test" };
    const place = addHelper(makeConfigPlace({ [RUN]: file({}, { credHelpers }) }), "test", ANSWER);
    expect(await find(place, "docker.io/x/y")).toBe("get https://index.docker.io/v1/");
  });

  test("when it does not know, the next file is asked", async () => {
    const files = {
      [RUN]: file({ "q.io": entry("not asked") }, { credHelpers: { "q.io": "test" } }),
      "/root/.docker/config.json": file({ "q.io": entry("next") }),
    };
    const place = addHelper(makeConfigPlace(files), "test", NOT_FOUND);
    expect(await find(place, "q.io/x")).toBe("next");
  });

  test("a store is asked when no entry answers", async () => {
    const files = { [RUN]: file({ "p.io": entry("p"), "q.io": {} }, { credsStore: "test" }) };
    const place = addHelper(makeConfigPlace(files), "test", ANSWER);
    expect(await find(place, "p.io/x")).toBe("p");
    expect(await find(place, "q.io/x")).toBe("get q.io");
    expect(await find(place, "docker.io/x/y")).toBe("get https://index.docker.io/v1/");
  });

  test("a store that is not installed matters to hosts with an entry only", async () => {
    const place = makeConfigPlace({ [RUN]: file({ "q.io": {} }, { credsStore: "desktop" }) });
    expect(await find(place, "other.io/x")).toBe(null);
    await expect(find(place, "q.io/x")).rejects.toThrow(UnsupportedError);
  });

  test("global ones are asked in their order", async () => {
    const plain = makeConfigPlace({ [RUN]: file({ "q.io": entry("file"), "p.io": entry("p") }) });
    const script = `case $(cat) in q.io) echo '{"Username":"global","Secret":"s"}';; *) ${NOT_FOUND};; esac`;
    const place = addHelper(plain, "test", script);
    expect(await find(place, "q.io/x", ["test", "containers-auth.json"])).toBe("global");
    expect(await find(place, "q.io/x", ["containers-auth.json", "test"])).toBe("file");
    expect(await find(place, "p.io/x", ["test", "containers-auth.json"])).toBe("p");
    expect(await find(place, "p.io/x", ["test"])).toBe(null);
    // One that fails is no obstacle as long as somebody knows.
    expect(await find(place, "p.io/x", ["missing", "containers-auth.json"])).toBe("p");
    await expect(find(place, "r.io/x", ["missing", "containers-auth.json"])).rejects.toThrow(
      /"docker-credential-missing" for "r.io" is not installed/,
    );
  });

  const one = (script: string) =>
    addHelper(
      makeConfigPlace({ [RUN]: file({}, { credHelpers: { "q.io": "test" } }) }),
      "test",
      script,
    );

  test("<token> is an identity token", async () => {
    expect(await find(one(`echo '{"Username":"<token>","Secret":"t0ken"}'`), "q.io/x")).toBe(
      "token t0ken",
    );
  });

  test.each([
    ["not found", NOT_FOUND],
    ["empty answer", `echo '{"ServerURL":"q.io","Username":"","Secret":""}'`],
  ])("%s: none", async (_name, script) => {
    expect(await find(one(script), "q.io/x")).toBe(null);
  });

  test.each([
    [
      "fails on stdout",
      "echo no keyring; exit 3",
      StateError,
      /get" for "q.io" failed: no keyring$/,
    ],
    ["fails on stderr", "echo one >&2; echo two >&2; exit 1", StateError, /failed: two$/],
    ["fails silently", "exit 1", StateError, /failed: it said nothing$/],
    [
      "answers and fails",
      `echo '{"Secret":"secret"}'; exit 1`,
      StateError,
      /failed: it said nothing/,
    ],
    ["answers nonsense", "echo secret", FormatError, /did not answer with JSON$/],
    ["lacks a field", `echo '{"Secret":"secret"}'`, FormatError, /"Username" and "Secret"$/],
    ["never stops writing", "yes secret", FormatError, /wrote more than 65536 bytes$/],
    ["is killed", "kill -9 $$", StateError, /failed: it said nothing$/],
  ])("one that %s", async (_name, script, kind, message) => {
    const error = await find(one(script), "q.io/x").catch((error: unknown) => error);
    expect(error).toBeInstanceOf(kind);
    expect((error as Error).message).toMatch(message);
    expect(Bun.inspect(error)).not.toContain(`{"Secret"`);
  });

  test("one that is not installed is named with its package", async () => {
    const content = file({}, { credHelpers: { "q.io": "pass", "r.io": "ecr-login" } });
    const place = makeConfigPlace({ [RUN]: content }, { PATH: "/nowhere" });
    await expect(find(place, "q.io/x")).rejects.toThrow(
      /the package "golang-docker-credential-helpers"/,
    );
    await expect(find(place, "r.io/x")).rejects.toThrow(
      /the package "amazon-ecr-credential-helper"/,
    );
  });

  test.each([["../../evil"], [""], ["a b"], ["-x"]])("%j is no helper", async (name) => {
    const place = makeConfigPlace({ [RUN]: file({}, { credHelpers: { "q.io": name } }) });
    await expect(find(place, "q.io/x")).rejects.toThrow(/is not the name of a credential helper/);
  });

  test("asking can be given up", async () => {
    const place = one("exec sleep 600");
    const sources = readCredentialSources(place, EMPTY_REGISTRIES_CONF);
    const controller = new AbortController();
    const asked = findCredentials(sources, "q.io", "x", controller.signal);
    controller.abort(new Error("given up"));
    await expect(asked).rejects.toThrow("given up");
    await expect(findCredentials(sources, "q.io", "x", controller.signal)).rejects.toThrow(
      "given up",
    );
  });
});
