// Fuzz target: names of images in registries, registries.conf, auth.json and the variables of proxies. What is accepted
// is safe in URLs and paths.

import { parseAuthFile } from "../../../updater/registry/auth-file.ts";
import { findCredentials } from "../../../updater/registry/credentials.ts";
import { findProxy, readProxySettings } from "../../../updater/registry/proxy.ts";
import {
  formatRegistryReference,
  parseRegistryReference,
} from "../../../updater/registry/reference.ts";
import {
  expandShortName,
  type RegistriesConf,
  resolveEndpoints,
} from "../../../updater/registry/registries-conf.ts";
import { parseRegistriesConf } from "../../../updater/registry/registries-conf-parse.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;
const CONF = `unqualified-search-registries = ["q.io", "docker.io"]
short-name-mode = "permissive"
[[registry]]
prefix = "*.b.io"
blocked = true
[[registry]]
prefix = "q.io/a"
location = "m.local:5000/n"
insecure = true
[[registry.mirror]]
location = "q.io/m"
proxy = "http://p:1"
pull-from-mirror = "digest-only"
[aliases]
"os" = "q.io/os"
`;
const OLD_CONF = `[registries.search]\nregistries = ["q.io"]\n[registries.block]\nregistries = ['b.io']\n`;
const AUTH = JSON.stringify({
  auths: {
    "q.io/a": { auth: "bWU6cHc=" },
    "https://index.docker.io/v1/": { identitytoken: "token" },
  },
  credHelpers: { "h.io": "missing" },
  credsStore: "none",
});

export const target: FuzzTarget = {
  focus:
    /^updater\/registry\/(reference|registries-conf|registries-conf-parse|auth-file|proxy)\.ts/,
  maxBytes: 2048,
  errors: ["FormatError", "UsageError", "PolicyError", "UnsupportedError"],
  words: [
    ...[
      "docker.io/",
      "localhost:5000/",
      "[::1]:5000/",
      "library/",
      ":latest",
      `@${DIGEST}`,
      "@sha256:",
    ],
    ...[
      "[[registry]]\n",
      "[[registry.mirror]]\n",
      "location = ",
      "prefix = ",
      '"*.b.io"',
      "[aliases]\n",
    ],
    ...[
      "blocked = true\n",
      "insecure = true\n",
      'pull-from-mirror = "tag-only"\n',
      "Blocked = true\n",
    ],
    ...[
      "mirror-by-digest-only = true\n",
      '"__proto__"',
      "registries",
      "{",
      "}",
      "null",
      `"auth":"YTpi"`,
    ],
    ...[
      "http://",
      "socks5://",
      "10.0.0.0/8",
      "*",
      ",",
      ":443",
      "::/0",
      "q.io",
      "xn--",
      "\u212a",
      "%25",
    ],
  ],
  seeds: () =>
    [
      ...["debian", "q.io/a/b:v1", `localhost:5000/x@${DIGEST}`, `[2001:db8::7]/x:y@${DIGEST}`],
      ...[CONF, OLD_CONF, AUTH, "10.0.0.0/8,.q.io,[::1]:80,*.x.y:443", "me:pw@p:3128"],
    ].map((text) => Buffer.from(text)),
  async check(input) {
    const text = Buffer.from(input).toString("utf8");
    const results = [
      attempt(() => checkReference(text)),
      attempt(() => checkConf(text)),
      attempt(() => checkProxy({ HTTPS_PROXY: text })),
      attempt(() => checkProxy({ HTTPS_PROXY: "p:1", NO_PROXY: text })),
      await checkAuth(input, false),
      await checkAuth(input, true),
    ];
    for (const result of results) {
      if ("error" in result && !target.errors!.includes(result.error.name)) throw result.error;
    }
    // NO_PROXY takes everything.
    return results.filter((result) => !("error" in result)).length > 1;
  },
};

function checkReference(text: string): void {
  const reference = parseRegistryReference(text);
  const { host, repository } = reference;
  checkPlace(host, repository);
  const again = parseRegistryReference(formatRegistryReference(reference));
  checkEqual(JSON.stringify(again), JSON.stringify(reference), "Reference written and read");
}

function checkPlace(host: string, repository: string): void {
  checkEqual(/^[a-z0-9.-]+(:\d+)?$|^\[[0-9a-f:.]+\](:\d+)?$/.test(host), true, `Host ${host}`);
  checkEqual(/^[a-z0-9]+([._/-]+[a-z0-9]+)*$/.test(repository), true, `Repository ${repository}`);
  checkEqual(/(^|\/)\.{0,2}(\/|$)/.test(repository), false, `Parts of ${repository}`);
}

function checkConf(text: string): void {
  const file = parseRegistriesConf(text, "file", "main");
  const conf: RegistriesConf = {
    registries: file.registries,
    searchRegistries: file.searchHosts && { hosts: file.searchHosts, source: "file" },
    shortNameMode: file.shortNameMode ?? "permissive",
    aliases: new Map(
      [...file.aliases].map(([name, value]) => [name, { name: value || "q.io/z", source: "file" }]),
    ),
    credentialHelpers: [],
  };
  const names = [
    ...file.registries.map(({ prefix }) => `${prefix.replace(/^\*/, "x")}/y`),
    "q.io/a/b",
  ];
  for (const name of [...file.aliases.keys(), "x:y"]) {
    const meant = attempt(() => expandShortName(conf, name));
    if ("error" in meant) checkEqual(meant.error.name, "UsageError", "Short name");
    else for (const { host, repository } of meant.value) checkPlace(host, repository);
  }
  for (const name of [...names, `q.io/a/b:t@${DIGEST}`]) {
    const reference = attempt(() => parseRegistryReference(name));
    if ("error" in reference) continue;
    const found = attempt(() => resolveEndpoints(conf, reference.value));
    if ("error" in found) {
      if (!["FormatError", "PolicyError"].includes(found.error.name)) throw found.error;
      continue;
    }
    checkEqual(found.value.length > 0, true, "Endpoints");
    for (const { host, repository } of found.value) checkPlace(host, repository);
  }
}

function checkProxy(environment: Readonly<Record<string, string>>): void {
  const settings = readProxySettings({ root: "/nowhere", environment, userId: 0 });
  for (const host of ["q.io", "10.1.2.3:5000", "[2001:db8::7]", "localhost"]) {
    const proxy = findProxy(settings, new URL(`https://${host}/`));
    if (host === "localhost") checkEqual(proxy === null, true, "No proxy for localhost");
  }
}

async function checkAuth(
  input: Uint8Array,
  isLegacy: boolean,
): Promise<{ readonly value: unknown } | { readonly error: Error }> {
  const file = attempt(() => parseAuthFile(input, "file", { isLegacy }));
  if ("error" in file) return file;
  // Helpers are looked for and never found.
  const place = { root: "/nowhere", environment: { PATH: "/nowhere" }, userId: 0 };
  const sources = {
    place,
    files: [{ path: "file", read: () => file.value }],
    helpers: ["containers-auth.json"],
  };
  for (const [host, repository] of [
    ["q.io", "a/b"],
    ["docker.io", "library/debian"],
    ["h.io", "x"],
  ] as const) {
    try {
      await findCredentials(sources, host, repository);
    } catch (error) {
      if (error instanceof Error && "kind" in error) return { error };
      throw error;
    }
  }
  return { value: null };
}
