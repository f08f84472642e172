// Credentials, certificates and proxies beside the real skopeo: whose it finds, and which requests go through one.

import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { readCertificates } from "../../updater/registry/certificates.ts";
import type { ConfigPlace } from "../../updater/registry/config-place.ts";
import { findCredentials, readCredentialSources } from "../../updater/registry/credentials.ts";
import { findProxy, readProxySettings } from "../../updater/registry/proxy.ts";
import { EMPTY_REGISTRIES_CONF } from "../../updater/registry/registries-conf.ts";
import { ask, inspect, makeDirectory, unquote } from "../support/container-programs.ts";
import { ensureImageTools } from "../support/image-tools.ts";
import { run } from "../support/run.ts";

const CONF = "registries.conf";

beforeAll(async () => {
  await ensureImageTools();
});

describe("credentials", () => {
  const encode = (user: string) => ({ auth: Buffer.from(`${user}:pw`).toString("base64") });

  async function ourUser(place: ConfigPlace, name: string): Promise<string | null> {
    const [host, ...path] = name.split("/");
    const sources = readCredentialSources(place, EMPTY_REGISTRIES_CONF);
    const found = await findCredentials(sources, host!, path.join("/"));
    return found?.kind === "basic" ? found.username : null;
  }

  function theirUser(answer: string): string | null {
    if (/not logged into/.test(answer)) return null;
    expect(answer).not.toMatch(/level=|rror/);
    return answer.trim();
  }

  test("are found under the same keys", async () => {
    const auths = {
      "q.io": encode("host"),
      "q.io/a": encode("namespace"),
      "q.io/a/b": encode("repository"),
      "localhost:5000": encode("port"),
      "https://old.io/v1/": encode("url"),
      "http://plain.io": encode("plain"),
      "https://index.docker.io/v1/": encode("hub"),
      "docker.io/mine": encode("hub-namespace"),
      "empty.io": {},
      "helped.io/x": encode("not asked"),
    };
    const script = `#!/bin/sh\necho "{\\"Username\\":\\"helper of $(cat)\\",\\"Secret\\":\\"s\\"}"\n`;
    const home = makeDirectory({
      "auth.json": JSON.stringify({ auths, credHelpers: { "helped.io": "test" } }),
      "bin/docker-credential-test": script,
    });
    await run(["chmod", "755", join(home, "bin/docker-credential-test")]);
    const environment = {
      REGISTRY_AUTH_FILE: join(home, "auth.json"),
      PATH: `${home}/bin:/usr/bin:/bin`,
    };
    const names = [
      ...["q.io/a/b", "q.io/a/b/c", "q.io/a/bc", "q.io/x", "q.io", "xq.io/x", "localhost:5000/x"],
      ...["localhost/x", "old.io/x", "plain.io/x", "docker.io/library/debian", "docker.io/mine/x"],
      ...["empty.io/x", "helped.io/x"],
    ];
    const answers = await ask(
      names.map((name) => ({ args: ["login", "--get-login", name], environment })),
    );
    const ours = names.map((name) => ourUser({ root: "/nowhere", environment, userId: 0 }, name));
    expect(await Promise.all(ours)).toEqual(answers.map(theirUser));
    expect(answers.map(theirUser).filter((user) => user !== null).length).toBeGreaterThan(8);
  });

  test("are looked for in the same files, in the same order", async () => {
    const paths = [
      "runtime/containers/auth.json",
      "config/containers/auth.json",
      "home/.docker/config.json",
      "home/.dockercfg",
    ];
    const homes = paths.map((_, first) =>
      makeDirectory(
        Object.fromEntries([
          ["runtime/here", ""],
          ...paths.slice(first).map((path) => {
            const auths = { "q.io": encode(path) };
            return [path, JSON.stringify(path.endsWith("cfg") ? auths : { auths })];
          }),
        ]),
      ),
    );
    const environments = homes.map((home) => ({
      XDG_RUNTIME_DIR: join(home, "runtime"),
      XDG_CONFIG_HOME: join(home, "config"),
      HOME: join(home, "home"),
    }));
    const answers = await ask(
      environments.map((environment) => ({ args: ["login", "--get-login", "q.io"], environment })),
    );
    expect(answers.map(theirUser)).toEqual(paths);
    const ours = environments.map((environment) =>
      ourUser({ root: "/nowhere", environment, userId: 0 }, "q.io/x"),
    );
    expect(await Promise.all(ours)).toEqual(paths);
  });
});

test("certificates are taken from the same directory, and refused alike", async () => {
  const vectors = join(import.meta.dirname, "../vectors/registry");
  const read = async (name: string) => Bun.file(join(vectors, name)).text();
  const base = ".config/containers/certs.d";
  const home = makeDirectory({
    [CONF]: "",
    [`${base}/good.io/ca.crt`]: await read("ca.crt"),
    [`${base}/good.io/client.cert`]: await read("client.cert"),
    [`${base}/good.io/client.key`]: await read("client.key"),
    [`${base}/good.io:5000/ca.crt`]: await read("ca.crt"),
    [`${base}/no-key.io/client.cert`]: await read("client.cert"),
    [`${base}/no-cert.io/client.key`]: await read("client.key"),
    [`${base}/other-key.io/client.cert`]: await read("client.cert"),
    [`${base}/other-key.io/client.key`]: await read("ca.key"),
    [`${base}/locked.io/client.cert`]: await read("client.cert"),
    [`${base}/locked.io/client.key`]: await read("client-encrypted.key"),
  });
  const hosts = [
    ...["good.io", "good.io:5000", "good.io:5001", "elsewhere.io", "docker.io"],
    ...["no-key.io", "no-cert.io", "other-key.io", "locked.io"],
  ];
  const answers = await ask(
    hosts.map((host) => ({
      args: inspect(`${host}/x/y`, join(home, CONF)),
      environment: { HOME: home },
    })),
  );
  const theirs = answers.map((answer) => {
    if (!/msg="GET https:/.test(answer)) return "refused";
    const directory = /private keys in (.*?)"/.exec(answer)![1]!;
    // The last place it would look at, whether that is there or not.
    return directory.startsWith("/etc/docker/certs.d/") ? null : directory;
  });
  const ours = hosts.map((host) => {
    try {
      return readCertificates({ root: "/nowhere", environment: { HOME: home }, userId: 0 }, host)
        .directory;
    } catch {
      return "refused";
    }
  });
  expect(ours).toEqual(theirs);
  expect(theirs).toEqual([
    join(home, base, "good.io"),
    join(home, base, "good.io:5000"),
    ...[null, null, null],
    ...["refused", "refused", "refused", "refused"],
  ]);
});

test("the same requests go through a proxy", async () => {
  const home = makeDirectory({
    [CONF]: `[[registry]]\nlocation = "plain.example"\ninsecure = true\n`,
  });
  const proxies = { HTTPS_PROXY: "http://10.9.9.9:3128", HTTP_PROXY: "10.9.9.9:3128" };
  const lists = [
    ...["", "*", "example.com", ".example.com", "*.example.com", "example.com:443", "com"],
    ...["example.com:8443", "EXAMPLE.COM", "x, example.com ,y", ":443", "10.0.0.0/8", "10.0.0.1"],
    ...["10.0.0.1:5000", "10.0.0.1:5001", "0.0.0.0/0", "10.0.0.0/33", "0.1"],
    ...["http://example.com", ".", "127.0.0.0/8", "[::1]", "::/0"],
  ];
  const hosts = [
    ...["example.com", "sub.example.com", "notexample.com", "example.com:8443", "10.0.0.1:5000"],
    ...["localhost:5000", "127.3.3.3:5000", "plain.example", "a.localhost"],
  ];
  const cases = lists.flatMap((list) => hosts.map((host) => ({ list, host })));
  const answers = await ask(
    cases.map(({ list, host }) => ({
      args: inspect(`${host}/x`, join(home, CONF)),
      environment: { ...proxies, NO_PROXY: list },
    })),
  );
  const theirs = answers.map((answer, i) => {
    const line = unquote(answer.trim().split("\n").at(-1)!);
    expect(line).toMatch(/dial (tcp|udp)/);
    return [cases[i]!.list, cases[i]!.host, /proxyconnect|dial tcp 10\.9\.9\.9/.test(line)];
  });
  const ours = cases.map(({ list, host }) => {
    const environment = { ...proxies, NO_PROXY: list };
    const settings = readProxySettings({ root: "/nowhere", environment, userId: 0 });
    const scheme = host === "plain.example" ? "http" : "https";
    return [list, host, findProxy(settings, new URL(`${scheme}://${host}/v2/`)) !== null];
  });
  expect(ours).toEqual(theirs);
  expect(new Set(theirs.map(([, , isProxied]) => isProxied)).size).toBe(2);
});
