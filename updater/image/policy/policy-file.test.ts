import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeError, PolicyError } from "../../../shared/error.ts";
import { parsePolicy, policyPaths, readPolicy } from "./policy-file.ts";

const ACCEPT = { type: "insecureAcceptAnything" };
const REJECT = { type: "reject" };
const GPG = { type: "signedBy", keyType: "GPGKeys", keyPath: "/k.gpg" };
const SIGSTORE = { type: "sigstoreSigned", keyPath: "/k.pub" };
const FULCIO = { caPath: "/ca.pem", oidcIssuer: "https://issuer", subjectEmail: "a@b" };
const parse = (policy: unknown) =>
  parsePolicy(
    Buffer.from(typeof policy === "string" ? policy : JSON.stringify(policy)),
    "/etc/containers/policy.json",
  );
const withRequirement = (requirement: unknown) => ({ default: [requirement] });
const withIdentity = (signedIdentity: unknown) => withRequirement({ ...GPG, signedIdentity });
const withScope = (transport: string, scope: string) => ({
  default: [REJECT],
  transports: { [transport]: { [scope]: [ACCEPT] } },
});

describe("accepted", () => {
  test.each<[string, unknown]>([
    ["default only", { default: [ACCEPT] }],
    ["several requirements", { default: [GPG, SIGSTORE] }],
    ["an unknown transport", withScope("atomic", "host:5000/ns")],
    ["docker wildcard", withScope("docker", "*.example.com")],
    ["path scope", withScope("dir", "/srv/images")],
    ["path and tag", withScope("oci", "/srv/images:latest")],
    ["transport's default", withScope("docker-archive", "")],
    ["key in the policy", withRequirement({ type: "sigstoreSigned", keyData: "aGFsbG8=" })],
    ["data with line ends", withRequirement({ type: "sigstoreSigned", keyData: "aGFs\nbG8=\n" })],
    ["several keys", withRequirement({ type: "sigstoreSigned", keyPaths: ["/a", "/b"] })],
    ["several GPG keyrings", withRequirement({ ...GPG, keyPath: undefined, keyPaths: ["/a"] })],
    [
      "Fulcio",
      withRequirement({ type: "sigstoreSigned", fulcio: FULCIO, rekorPublicKeyPath: "/r.pub" }),
    ],
    [
      "PKI",
      withRequirement({
        type: "sigstoreSigned",
        pki: { caRootsPath: "/ca", subjectHostname: "example.com" },
      }),
    ],
    ["matchExact", withIdentity({ type: "matchExact" })],
    ["exactReference", withIdentity({ type: "exactReference", dockerReference: "quay.io/a/b:1" })],
    ["exactRepository", withIdentity({ type: "exactRepository", dockerRepository: "quay.io/a/b" })],
    [
      "remapIdentity",
      withIdentity({ type: "remapIdentity", prefix: "mirror:5000/x", signedPrefix: "example.com" }),
    ],
  ])("%s", (_, policy) => {
    expect(parse(policy).default.length).toBeGreaterThan(0);
  });

  test("identity defaults to matchRepoDigestOrExact", () => {
    expect(parse(withRequirement(GPG)).default).toEqual([
      { ...GPG, signedIdentity: { type: "matchRepoDigestOrExact" } },
    ]);
  });
});

describe("refused", () => {
  test.each<[string, unknown, RegExp]>([
    ["no JSON", "{", /is not JSON/],
    ["nothing", "", /is not JSON/],
    ["trailing text", '{"default":[{"type":"reject"}]} x', /is not JSON/],
    ["no default", { transports: {} }, /default/],
    ["default without requirements", { default: [] }, /must not be empty/],
    ["scope without requirements", withScopeRequirements([]), /must not be empty/],
    ["unknown top-level key", { default: [ACCEPT], extra: 1 }, /extra/],
    ["unknown requirement", withRequirement({ type: "accept" }), /type/],
    ["requirement without type", withRequirement({}), /type/],
    ["unknown key of a requirement", withRequirement({ ...REJECT, because: "x" }), /because/],
    ["misspelt signedIdentity", withRequirement({ ...GPG, signedIdentiy: {} }), /signedIdentiy/],
    ["no key", withRequirement({ ...GPG, keyPath: undefined }), /exactly one of/],
    ["two keys", withRequirement({ ...GPG, keyData: "aGFsbG8=" }), /exactly one of/],
    ["empty key path", withRequirement({ ...GPG, keyPath: "" }), /keyPath/],
    ["unknown key type", withRequirement({ ...GPG, keyType: "PGP" }), /keyType/],
    ["key data that is no base64", withRequirement({ ...SIGSTORE, keyData: "*" }), /base64/],
    ["sigstore with key and Fulcio", withRequirement({ ...SIGSTORE, fulcio: FULCIO }), /exactly/],
    ["Fulcio without Rekor", withRequirement({ type: "sigstoreSigned", fulcio: FULCIO }), /Rekor/],
    [
      "Fulcio without an address",
      withRequirement({
        type: "sigstoreSigned",
        fulcio: { ...FULCIO, subjectEmail: undefined },
        rekorPublicKeyPath: "/r",
      }),
      /subjectEmail/,
    ],
    [
      "two Rekor keys",
      withRequirement({ ...SIGSTORE, rekorPublicKeyPath: "/a", rekorPublicKeyData: "aGFsbG8=" }),
      /rekorPublicKeyPath/,
    ],
    [
      "PKI without a subject",
      withRequirement({ type: "sigstoreSigned", pki: { caRootsPath: "/ca" } }),
      /subjectEmail or subjectHostname/,
    ],
    ["unknown identity", withIdentity({ type: "any" }), /signedIdentity/],
    [
      "exactReference without a tag",
      withIdentity({ type: "exactReference", dockerReference: "quay.io/a/b" }),
      /tag or digest/,
    ],
    [
      "remapIdentity with a tag",
      withIdentity({ type: "remapIdentity", prefix: "q.io/x:1", signedPrefix: "example.com" }),
      /host nor the full name/,
    ],
    ["relative path scope", withScope("dir", "srv/images"), /absolute/],
    ["root as scope", withScope("oci", "/"), /use ""/],
    ["path scope with ..", withScope("dir", "/srv/../x"), /shortest form/],
    ["path scope with / at the end", withScope("dir", "/srv/"), /shortest form/],
    ["scope of docker-archive", withScope("docker-archive", "/x"), /only one there is/],
    ["a key twice", '{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}', /twice/],
    [
      "a scope twice, spelt differently",
      '{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"\\u0061":[{"type":"insecureAcceptAnything"}]}}}',
      /"a" twice/,
    ],
  ])("%s", (_, policy, message) => {
    let error: unknown;
    try {
      parse(policy);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PolicyError);
    expect(describeError(error)).toMatch(message);
    expect(describeError(error)).toContain('Policy "/etc/containers/policy.json"');
  });
});

function withScopeRequirements(requirements: readonly unknown[]) {
  return { default: [REJECT], transports: { docker: { "quay.io": requirements } } };
}

describe("where it is", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "policy-"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));
  const put = (path: string) => {
    const full = join(root, path);
    mkdirSync(join(full, ".."), { recursive: true });
    writeFileSync(full, JSON.stringify({ default: [ACCEPT] }));
    return full;
  };

  const paths = (environment: Readonly<Record<string, string>>, userId = 0) =>
    policyPaths({ root: "/", environment, userId });
  const read = (environment: Readonly<Record<string, string>> = {}) =>
    readPolicy({ root, environment, userId: 0 });

  test("the order is bootc's", () => {
    expect(paths({ HOME: "/h", XDG_CONFIG_HOME: "/x" })).toEqual([
      "/x/containers/policy.json",
      "/etc/containers/policy.json",
      "/usr/share/containers/policy.json",
    ]);
    expect(paths({ HOME: "/h" })[0]).toBe("/h/.config/containers/policy.json");
    // Services have no $HOME; root's is known all the same.
    expect(paths({})[0]).toBe("/root/.config/containers/policy.json");
    expect(paths({}, 1000)).toHaveLength(2);
    expect(paths({ CONTAINERS_POLICY_JSON: "/p", HOME: "/h" })).toEqual(["/p"]);
  });

  test("the first that is there counts", () => {
    expect(read()).toBeNull();
    const shared = put("usr/share/containers/policy.json");
    expect(read()?.path).toBe(shared);
    const system = put("etc/containers/policy.json");
    expect(read()?.path).toBe(system);
    const own = put("home/.config/containers/policy.json");
    expect(read({ HOME: join(root, "home") })?.path).toBe(own);
  });

  test("one that is asked for by name must be there", () => {
    put("etc/containers/policy.json");
    const missing = join(root, "missing.json");
    expect(() => read({ CONTAINERS_POLICY_JSON: missing })).toThrow(
      `Policy "${missing}" cannot be read`,
    );
  });

  test("one that cannot be understood is not passed over", () => {
    put("usr/share/containers/policy.json");
    writeFileSync(put("etc/containers/policy.json"), "{}");
    expect(() => read()).toThrow(PolicyError);
  });
});
