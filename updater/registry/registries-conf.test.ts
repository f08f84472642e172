// registries.conf: which servers an image is asked from, and what short names mean.

import { describe, expect, test } from "vitest";
import { FormatError, PolicyError, UsageError } from "../../shared/error.ts";
import { makeConfigPlace } from "../../test/support/config-place.ts";
import { parseRegistryReference } from "./reference.ts";
import { expandShortName, resolveEndpoints } from "./registries-conf.ts";
import { readRegistriesConf } from "./registries-conf-files.ts";

const SHA256 = `sha256:${"0123456789abcdef".repeat(4)}`;
const MAIN = "/etc/containers/registries.conf";

const readText = (text: string) => readRegistriesConf(makeConfigPlace({ [MAIN]: text }));

/** "mirror host/repository insecure proxy" for each endpoint. */
function resolve(text: string, reference: string): readonly string[] {
  const endpoints = resolveEndpoints(readText(text), parseRegistryReference(reference));
  return endpoints.map(({ host, repository, insecure, isMirror, proxy }) =>
    [
      isMirror ? "mirror" : "origin",
      `${host}/${repository}`,
      ...(insecure ? ["insecure"] : []),
      ...(proxy === null ? [] : [proxy]),
    ].join(" "),
  );
}

const MIRRORS = `
[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"
[[registry.mirror]]
location = "m1.local/mirror"
insecure = true
[[registry.mirror]]
location = "m2.local:5000"
proxy = "http://proxy:3128"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "hub.local"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.local/hub"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "all.local"
pull-from-mirror = "all"
[[registry]]
location = "by-digest.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "fast.local"
[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry.mirror]]
location = "wild.local/m"
[[registry]]
location = "plain.example:5000"
insecure = true
[[registry]]
prefix = "renamed.example"
location = "single"
`;

describe("endpoints", () => {
  test.each([
    ["elsewhere.example/x:1", ["origin elsewhere.example/x"]],
    [
      "example.com/foo/img:1",
      [
        "mirror m1.local/mirror/img insecure",
        "mirror m2.local:5000/img http://proxy:3128",
        "origin internal.example.net/bar/img",
      ],
    ],
    // A prefix ends where a name part ends.
    ["example.com/foobar:1", ["origin example.com/foobar"]],
    ["example.com/other", ["origin example.com/other"]],
    [
      "debian",
      [
        "mirror tags.local/hub/library/debian",
        "mirror all.local/library/debian",
        "origin docker.io/library/debian",
      ],
    ],
    [
      `debian@${SHA256}`,
      [
        "mirror hub.local/library/debian",
        "mirror all.local/library/debian",
        "origin docker.io/library/debian",
      ],
    ],
    // A digest makes it a pull by digest, tag or not.
    [
      `debian:12@${SHA256}`,
      [
        "mirror hub.local/library/debian",
        "mirror all.local/library/debian",
        "origin docker.io/library/debian",
      ],
    ],
    ["by-digest.example/x:1", ["origin by-digest.example/x"]],
    [`by-digest.example/x@${SHA256}`, ["mirror fast.local/x", "origin by-digest.example/x"]],
    ["a.wild.example/x", ["mirror wild.local/m/x", "origin a.wild.example/x insecure"]],
    ["a.b.wild.example/x", ["mirror wild.local/m/x", "origin a.b.wild.example/x insecure"]],
    ["wild.example/x", ["origin wild.example/x"]],
    ["notwild.example/x", ["origin notwild.example/x"]],
    ["a.wild.example.evil/x", ["origin a.wild.example.evil/x"]],
    // containers/image looks at the first place only where the suffix occurs.
    [
      "a.wild.example.wild.example/x",
      ["mirror wild.local/m/x", "origin a.wild.example.wild.example/x insecure"],
    ],
    ["evil.example/a.wild.example/x", ["origin evil.example/a.wild.example/x"]],
    ["plain.example:5000/x", ["origin plain.example:5000/x insecure"]],
    ["plain.example:50001/x", ["origin plain.example:50001/x"]],
    ["plain.example/x", ["origin plain.example/x"]],
    // Without a port a prefix covers all ports, as in containers/image.
    ["by-digest.example:8080/x:1", ["origin by-digest.example:8080/x"]],
    ["renamed.example/x:1", ["origin single/x"]],
  ] as const)("%s", (reference, expected) => {
    expect(resolve(MIRRORS, reference)).toEqual(expected);
  });

  test("the longest prefix counts alone, wherever it stands", () => {
    const text = `
      [[registry]]
      prefix = "q.io/a/b"
      location = "long.local"
      [[registry]]
      location = "q.io"
      insecure = true
      [[registry]]
      prefix = "q.io/a"
      location = "middle.local"
    `;
    expect(resolve(text, "q.io/a/b/c")).toEqual(["origin long.local/c"]);
    expect(resolve(text, "q.io/a/bc")).toEqual(["origin middle.local/bc"]);
    expect(resolve(text, "q.io/x")).toEqual(["origin q.io/x insecure"]);
  });

  test("a prefix may name a tag or a digest", () => {
    const text = `
      [[registry]]
      prefix = "q.io/a:old"
      location = "archive.local/a:old"
      [[registry]]
      prefix = "q.io/a@${SHA256}"
      location = "q.io/a@${SHA256}"
      insecure = true
    `;
    expect(resolve(text, "q.io/a:old")).toEqual(["origin archive.local/a"]);
    expect(resolve(text, "q.io/a:older")).toEqual(["origin q.io/a"]);
    expect(resolve(text, `q.io/a:new@${SHA256}`)).toEqual(["origin q.io/a insecure"]);
  });

  test("a location that would change the tag is refused", () => {
    const text = `
      [[registry]]
      prefix = "q.io/a:old"
      location = "archive.local/a:new"
    `;
    expect(() => resolve(text, "q.io/a:old")).toThrow(
      /another tag or digest.*end it as the prefix/,
    );
  });

  test("a location that leaves no repository is refused", () => {
    const text = `
      [[registry]]
      prefix = "q.io/a"
      location = "q.local"
    `;
    expect(() => resolve(text, "q.io/a:1")).toThrow(FormatError);
  });
});

describe("blocked", () => {
  const text = `
    [[registry]]
    location = "bad.example"
    blocked = true
    [[registry]]
    prefix = "*.evil.example"
    Blocked = true
    [[registry]]
    location = "bad.example/good"
    [[registry]]
    prefix = "alias.example"
    location = "bad.example/x"
    [[registry]]
    prefix = "forbidden.example"
    location = "elsewhere.example"
    blocked = true
    [[registry]]
    location = "mirrored.example"
    blocked = true
    [[registry.mirror]]
    location = "m.local"
    [[registry.mirror]]
    location = "bad.example/m"
    [[registry.mirror]]
    location = "digests.local"
    pull-from-mirror = "digest-only"
    [[registry]]
    location = "digests.example"
    blocked = true
    [[registry.mirror]]
    location = "m.local"
    pull-from-mirror = "digest-only"
  `;

  test.each([
    ["bad.example/x"],
    ["BAD.example/x"],
    ["bad.example:8080/x"],
    [`bad.example/x@${SHA256}`],
    ["very.evil.example/x"],
    ["very.evil.example:443/x"],
    ["alias.example/y"],
    ["forbidden.example/y"],
    ["digests.example/y:1"],
  ])("%s", (reference) => {
    expect(() => resolve(text, reference)).toThrow(PolicyError);
    expect(() => resolve(text, reference)).toThrow(
      /is blocked by prefix ".*" in ".*\/etc\/containers\/registries\.conf"; use another image, or remove/,
    );
  });

  test.each([["bad.example/good/x"], ["bad.example2/x"], ["evil.example/x"]])(
    "not %s",
    (reference) => {
      expect(resolve(text, reference)).toEqual([`origin ${reference}`]);
    },
  );

  test("mirrors of a blocked registry are asked, blocked mirrors are not", () => {
    expect(resolve(text, "mirrored.example/x:1")).toEqual(["mirror m.local/x"]);
    expect(resolve(text, `digests.example/x@${SHA256}`)).toEqual(["mirror m.local/x"]);
  });
});

describe("short names", () => {
  const expand = (text: string, name: string) =>
    expandShortName(readText(text), name).map(
      ({ host, repository, tag, digest }) => `${host}/${repository} ${tag ?? digest}`,
    );
  const SEARCH = `unqualified-search-registries = ["quay.io", "docker.io"]`;
  const ALIAS = `
    ${SEARCH}
    [aliases]
    "os" = "quay.io/our/os"
    "deb/ian" = "docker.io/debian"
    "gone" = ""
  `;

  test.each([
    ["", "debian", ["docker.io/library/debian latest"]],
    ["", "quay.io/x:1", ["quay.io/x 1"]],
    [SEARCH, "debian:12", ["quay.io/debian 12", "docker.io/library/debian 12"]],
    [SEARCH, "a/b", ["quay.io/a/b latest", "docker.io/a/b latest"]],
    [SEARCH, "localhost/b", ["localhost/b latest"]],
    [ALIAS, "os", ["quay.io/our/os latest"]],
    [ALIAS, "os:7", ["quay.io/our/os 7"]],
    [ALIAS, `os@${SHA256}`, [`quay.io/our/os ${SHA256}`]],
    [ALIAS, "deb/ian", ["docker.io/library/debian latest"]],
    [ALIAS, "os/x", ["quay.io/os/x latest", "docker.io/os/x latest"]],
    [ALIAS, "gone", ["quay.io/gone latest", "docker.io/library/gone latest"]],
    [
      `short-name-mode = "disabled"\n${SEARCH}`,
      "x",
      ["quay.io/x latest", "docker.io/library/x latest"],
    ],
    [
      `short-name-mode = "enforcing"\nunqualified-search-registries = ["quay.io/"]`,
      "x",
      ["quay.io/x latest"],
    ],
    [`short-name-mode = "enforcing"`, "x", ["docker.io/library/x latest"]],
  ] as const)("%j: %s", (text, name, expected) => {
    expect(expand(text, name)).toEqual(expected);
  });

  test("an ambiguous name is refused in the mode enforcing, with the choices", () => {
    const text = `short-name-mode = "enforcing"\n${SEARCH}`;
    expect(() => expand(text, "x:1")).toThrow(UsageError);
    expect(() => expand(text, "x:1")).toThrow(
      /may mean "quay.io\/x:1", "docker.io\/library\/x:1".*write one of them/,
    );
  });

  test("an empty list forbids them", () => {
    const text = "unqualified-search-registries = []";
    expect(() => expand(text, "x")).toThrow(/in ".*registries.conf" is empty; write "REGISTRY\/x"/);
    expect(expand(text, "quay.io/x")).toEqual(["quay.io/x latest"]);
  });
});
