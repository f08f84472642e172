// registries.conf beside the real skopeo and podman: which names they take, which servers they ask for an image in which
// order, what a short name means to them.

import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { PolicyError, UsageError } from "../../shared/error.ts";
import type { ConfigPlace } from "../../updater/registry/config-place.ts";
import {
  formatRegistryReference,
  parseRegistryReference,
} from "../../updater/registry/reference.ts";
import { expandShortName, resolveEndpoints } from "../../updater/registry/registries-conf.ts";
import { readRegistriesConf } from "../../updater/registry/registries-conf-files.ts";
import { ask, inspect, makeDirectory, unquote } from "../support/container-programs.ts";
import { ensureImageTools } from "../support/image-tools.ts";

const SHA256 = `sha256:${"0123456789abcdef".repeat(4)}`;
const CONF = "registries.conf";
/** How many random configurations; `npm run test:all` takes more. */
const CONFIGURATIONS = process.env["TEST_ALL"] === undefined ? 120 : 1000;
const SEED = 20261122;

beforeAll(async () => {
  await ensureImageTools();
});

/** "host/repository:tag", with " insecure" when plain HTTP is tried; what is blocked is left out. */
function readEndpoints(answer: string): readonly string[] {
  const endpoints: string[] = [];
  for (const line of answer.split("\n").map(unquote)) {
    const place = /msg="Trying to access "(.*)""/.exec(line)?.[1];
    if (place !== undefined) endpoints.push(place);
    if (/msg="GET http:/.test(line)) endpoints.push(`${endpoints.pop()} insecure`);
    if (/msg="Accessing .* is blocked in /.test(line)) endpoints.pop();
  }
  return endpoints;
}

function ourEndpoints(place: ConfigPlace, text: string): readonly string[] {
  const reference = parseRegistryReference(text);
  try {
    return resolveEndpoints(readRegistriesConf(place), reference).map(
      ({ host, repository, insecure }) =>
        `${formatRegistryReference({ ...reference, host, repository })}${insecure ? " insecure" : ""}`,
    );
  } catch (error) {
    if (error instanceof PolicyError) return [];
    throw error;
  }
}

/** Only what the variable names, and drop-ins below `home`. */
function placeOf(conf: string, home: string): ConfigPlace {
  const environment = {
    CONTAINERS_REGISTRIES_CONF: conf,
    CONTAINERS_REGISTRIES_CONF_DIR: join(home, ".config/containers/registries.conf.d"),
    HOME: home,
  };
  return { root: "/nowhere", environment, userId: 0 };
}

test("names are read alike", async () => {
  const conf = join(makeDirectory({ [CONF]: "" }), CONF);
  const names = [
    ...["debian", "debian:12", "user/app", "docker.io/debian", "index.docker.io/debian"],
    ...["docker.io/library/debian", "quay.io/a/b-c_d__e.f:Tag_1.x-y", "localhost/app", "LOCAL/app"],
    ...["localhost:5000/a/b", "127.0.0.1:5000/a", "[::1]:5000/a:b", "[2001:db8::1]/a", "a.b/c"],
    ...["quay.io/a@sha256:x", `quay.io/a@${SHA256}`, `debian@${SHA256}`, "Debian", "quay.io/A/b"],
    ...[
      "quay.io/a..b",
      "quay.io/-a",
      "quay.io/a_",
      "quay.io/a___b",
      "quay.io/a--b",
      "quay.io/a__b",
    ],
    ...[
      "quay.io//a",
      "quay.io/a/",
      "/a",
      "quay.io/a:",
      "quay.io/a:-x",
      "quay.io/../a",
      "quay.io/a b",
    ],
    ...["https://quay.io/a", "a:b:c", "-a.b/c", "a..b/c", "a.b./c", "[::1/a", "[::g]/a", "x/y:z"],
    ...["0123456789abcdef".repeat(4), "0123456789ab", "user@quay.io/a", "a.b:x/c", "a.b:/c"],
    ...[
      `quay.io/a:${"t".repeat(128)}`,
      `quay.io/a:${"t".repeat(129)}`,
      `quay.io/${"a".repeat(256)}`,
    ],
  ];
  const answers = await ask(names.map((name) => ({ args: inspect(name, conf) })));
  const theirs = answers.map((answer) => readEndpoints(answer)[0] ?? null);
  const ours = names.map((name) => {
    try {
      return formatRegistryReference(parseRegistryReference(name));
    } catch {
      return null;
    }
  });
  expect(Object.fromEntries(names.map((name, i) => [name, ours[i]]))).toEqual({
    ...Object.fromEntries(names.map((name, i) => [name, theirs[i]])),
    // A host name of one word in upper case, which is nobody's.
    "LOCAL/app": null,
    // skopeo has no IPv6 addresses, distribution/reference has.
    "[::1]:5000/a:b": "[::1]:5000/a:b",
    "[2001:db8::1]/a": "[2001:db8::1]/a:latest",
  });
  expect(theirs.filter((name) => name !== null).length).toBeGreaterThan(15);
});

const REGISTRIES = `
[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"
[[registry.mirror]]
location = "m1.local/mirror"
insecure = true
[[registry.mirror]]
location = "m2.local:5000"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "hub.local"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.local/hub"
pull-from-mirror = "tag-only"
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
location = "bad.example"
Blocked = true
[[registry.mirror]]
location = "instead.local"
[[registry]]
prefix = "alias.example"
location = "bad.example/x"
[[registry]]
location = "bad.example/good"
`;
const REFERENCES = [
  ...[
    "elsewhere.example/x",
    "example.com/foo/img:1",
    "example.com/foobar",
    "debian",
    "bad.example/x",
  ],
  ...[
    `debian@${SHA256}`,
    "by-digest.example/x",
    `by-digest.example/x@${SHA256}`,
    "a.wild.example/x",
  ],
  ...["a.b.wild.example/x", "wild.example/x", "notwild.example/x", "by-digest.example:81/x"],
  ...["bad.example:5000/y", "alias.example/y", "bad.example/good/y", "bad.example2/y"],
];

test("the same servers are asked in the same order", async () => {
  const home = makeDirectory({ [CONF]: REGISTRIES });
  const conf = join(home, CONF);
  const answers = await ask(
    REFERENCES.map((name) => ({ args: inspect(name, conf), environment: { HOME: home } })),
  );
  const theirs = REFERENCES.map((name, i) => [name, readEndpoints(answers[i]!)]);
  const ours = REFERENCES.map((name) => [name, ourEndpoints(placeOf(conf, home), name)]);
  expect(ours).toEqual(theirs);
  expect(theirs.flatMap(([, places]) => places).length).toBeGreaterThan(REFERENCES.length);
});

// No prefixes with a tag or digest: the man page has them, skopeo looks for tables by the name alone.
const host = fc.constantFrom("a.x", "b.a.x", "b.x", "a.x:80", "c");
const namespace = fc.constantFrom("", "/n", "/n/o", "/n/op", "/n-o");
const place = fc.tuple(host, namespace).map((parts) => parts.join(""));
const table = fc.record({
  prefix: fc.oneof({ weight: 4, arbitrary: place }, fc.constantFrom("*.x", "*.a.x")),
  // Words of one letter are hosts to us and nothing to skopeo.
  location: place.filter((text) => !text.startsWith("c")),
  insecure: fc.boolean(),
  mirrors: fc.array(
    fc.record({
      location: place.filter((text) => !text.startsWith("c")),
      insecure: fc.boolean(),
      rule: fc.constantFrom("", "all", "digest-only", "tag-only"),
    }),
    { maxLength: 2 },
  ),
  byDigest: fc.boolean(),
  isBlocked: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
});
type Table = typeof table extends fc.Arbitrary<infer T> ? T : never;

/** What is blocked is its own location: a blocked name that leads elsewhere is open to skopeo and closed to us. */
function writeTable({ prefix, insecure, mirrors, byDigest, isBlocked, ...more }: Table): string {
  const location = !isBlocked ? more.location : prefix.startsWith("*.") ? "" : prefix;
  return [
    `[[registry]]\nprefix = "${prefix}"\nlocation = "${location}"\ninsecure = ${insecure}`,
    ...(byDigest ? ["mirror-by-digest-only = true"] : []),
    ...(isBlocked ? ["blocked = true"] : []),
    ...mirrors.flatMap(({ location, insecure, rule }) => [
      `[[registry.mirror]]\nlocation = "${location}"\ninsecure = ${insecure}`,
      ...(byDigest ? [] : [`pull-from-mirror = "${rule}"`]),
    ]),
  ].join("\n");
}

test("random tables in a main file and two drop-ins lead to the same servers", async () => {
  const files = fc.tuple(...[0, 1, 2].map(() => fc.array(table, { maxLength: 3 })));
  const name = fc
    .tuple(fc.constantFrom("a.x", "b.a.x", "a.x:80", "b.x"), namespace)
    .chain((parts) => fc.constantFrom(...["", "/n", "/r"].map((end) => `${parts.join("")}${end}`)))
    .filter((text) => text.includes("/"))
    .chain((text) => fc.constantFrom(`${text}:t`, `${text}@${SHA256}`));
  const cases = fc.sample(fc.tuple(files, fc.array(name, { minLength: 2, maxLength: 3 })), {
    numRuns: CONFIGURATIONS,
    seed: SEED,
  });
  const questions = cases.flatMap(([tables, names]) => {
    const dropIns = ".config/containers/registries.conf.d";
    const home = makeDirectory({
      [CONF]: tables[0]!.map(writeTable).join("\n"),
      [`${dropIns}/1.conf`]: tables[1]!.map(writeTable).join("\n"),
      [`${dropIns}/2.conf`]: tables[2]!.map(writeTable).join("\n"),
    });
    return names.map((name) => ({ home, name }));
  });
  const answers = await ask(
    questions.map(({ home, name }) => ({
      args: inspect(name, join(home, CONF)),
      environment: { HOME: home },
    })),
  );
  let agreed = 0;
  for (const [index, { home, name }] of questions.entries()) {
    const answer = answers[index]!;
    const ours = () => ourEndpoints(placeOf(join(home, CONF), home), name);
    if (/conflicting '(insecure|blocked)' setting/.test(answer)) {
      expect(ours).toThrow(/is there twice with different "(insecure|blocked)"/);
      continue;
    }
    if (/rewriting reference/.test(answer)) {
      // A location without a repository; ours says the same, or the mirrors before it are enough to know.
      expect(ours).toThrow(/makes no image name|leads to another tag/);
      continue;
    }
    expect([name, ours()]).toEqual([name, readEndpoints(answer)]);
    agreed++;
  }
  expect(agreed).toBeGreaterThan(CONFIGURATIONS);
});

test("short names mean the same to podman", async () => {
  const search = `unqualified-search-registries = ["127.0.0.1:1", "127.0.0.2:1/"]\n`;
  const aliases = `[aliases]\nos = "127.0.0.3:1/our/os"\n"deb/ian" = "127.0.0.3:1/debian"\ngone = ""\n`;
  const cases = [
    ...["debian:12", "a/b", `a@${SHA256}`, "127.0.0.9:1/x"].map((name) => [search, name] as const),
    ...["os", "os:7", `os@${SHA256}`, "deb/ian", "os/x", "gone"].map(
      (name) => [search + aliases, name] as const,
    ),
    [`short-name-mode = "enforcing"\n${search}`, "x"],
    [`short-name-mode = "disabled"\n${search}`, "x"],
    [`short-name-mode = "enforcing"\nunqualified-search-registries = ["127.0.0.1:1"]`, "x"],
    ["unqualified-search-registries = []", "x"],
  ] as const;
  const homes = cases.map(([text]) =>
    makeDirectory({ ".config/containers/registries.conf": text, "storage/x": "", "run/x": "" }),
  );
  const answers = await ask(
    cases.map(([, name], i) => ({
      program: "podman",
      args: [
        ...["--root", `${homes[i]}/storage`, "--runroot", `${homes[i]}/run`],
        ...["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"],
        ...["pull", "--retry", "0", name],
      ],
      environment: { HOME: homes[i]! },
    })),
  );
  const theirs = answers.map((answer) => {
    const tried = [...answer.matchAll(/^Trying to pull (.*)\.\.\.$/gm)].map(([, name]) => name!);
    if (tried.length === 0) expect(answer).toMatch(/short-name/);
    return tried;
  });
  const ours = cases.map(([, name], i) => {
    const environment = { HOME: homes[i]! };
    const conf = readRegistriesConf({ root: "/nowhere", environment, userId: 0 });
    try {
      return expandShortName(conf, name).map(formatRegistryReference);
    } catch (error) {
      expect(error).toBeInstanceOf(UsageError);
      return [];
    }
  });
  expect(ours).toEqual(theirs);
  expect(theirs.map((tried) => tried.length)).toEqual([2, 2, 2, 1, 1, 1, 1, 1, 2, 2, 0, 2, 1, 0]);
});

test("malformed files are refused by both", async () => {
  const files = [
    "a = ",
    `[[registry]]\nlocation = 1`,
    `[[registry]]\nlocation = "a.b"\nblocked = "yes"`,
    `[[registry]]`,
    `[[registry]]\nprefix = "a.b"`,
    `[[registry]]\nlocation = "https://a.b"`,
    `[[registry]]\nprefix = "*.b.c/d"`,
    `[[registry]]\nprefix = "*.b.c:1"`,
    `[[registry]]\nlocation = "a.b"\npull-from-mirror = "all"`,
    `[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\ninsecure = true`,
    `[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\nlocation = "m"\npull-from-mirror = "x"`,
    `unqualified-search-registries = ["a.b/c"]`,
    `short-name-mode = "always"`,
    `[aliases]\n"a.b/c" = "d.e/f"`,
    `[aliases]\n"c:1" = "d.e/f"`,
    `[aliases]\nc = "d.e/f:1"`,
    `[aliases]\nc = "d/f"`,
    `unqualified-search-registries = []\n[registries.search]\nregistries = ["a.b"]`,
  ];
  const homes = files.map((text) => makeDirectory({ [CONF]: text }));
  const answers = await ask(
    homes.map((home) => ({ args: inspect("q.example/x", join(home, CONF)) })),
  );
  for (const [index, home] of homes.entries()) {
    expect(answers[index]).toMatch(/level=fatal msg=.*loading registries configuration/);
    expect(() => readRegistriesConf(placeOf(join(home, CONF), home))).toThrow(/^Cannot read /);
  }
});
