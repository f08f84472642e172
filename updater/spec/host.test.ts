import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import {
  makeDeployment,
  makeFailure,
  makeHostState,
  makeMachineTrust,
  makeTrust,
} from "../../test/support/hosts.ts";
import { hostJsonSchema, parseHost } from "./host.ts";
import { makeEmptyHost, makeHost } from "./make-host.ts";

interface Schema {
  readonly type?: string;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly enum?: readonly string[];
}

describe("hostJsonSchema", () => {
  const schema = hostJsonSchema();
  const definitions = schema["$defs"] as Record<string, Schema>;
  const required = (name: string) => [...(definitions[name]?.required ?? [])].sort();

  test("fields and which of them are required, as in upstream's schema", () => {
    const shape = Object.fromEntries(
      Object.entries(definitions)
        .filter(([, definition]) => definition.properties !== undefined)
        .map(([name, { properties }]) => [
          name,
          Object.keys(properties ?? {}).map((field) =>
            required(name).includes(field) ? `${field}!` : field,
          ),
        ]),
    );
    expect(schema["required"]).toEqual(["apiVersion", "kind"]);
    expect(shape).toEqual({
      ObjectMeta: ["name", "namespace", "labels", "annotations"],
      HostSpec: ["image", "bootOrder"],
      ImageReference: ["image!", "transport!", "signature"],
      HostStatus: [
        ...["staged", "booted", "rollback", "otherDeployments", "rollbackQueued", "type"],
        ...["usrOverlay", "readOnly", "failedDeployments", "trust", "problems"],
      ],
      FailedDeployment: [
        ...["verity!", "image", "imageDigest", "failedAt!", "reason!", "detail", "attempts!"],
        "retrying",
      ],
      BootEntry: [
        ...["image", "cachedUpdate", "incompatible!", "pinned!", "softRebootCapable"],
        ...["downloadOnly", "store", "ostree", "composefs", "signaturePolicy"],
        "trust",
      ],
      DeploymentTrust: ["mode!", "sealed!", "key", "version", "expires", "verity!", "refusal"],
      MachineTrust: ["secureBoot!", "tpm!", "floor!", "next"],
      SignaturePolicy: ["policyFile", "scope!", "requirements!", "time!"],
      ImageStatus: ["image!", "version", "timestamp", "imageDigest!", "architecture!"],
      BootEntryOstree: ["stateroot!", "checksum!", "deploySerial!"],
      BootEntryComposefs: [
        ...["verity!", "bootType!", "bootloader!", "bootDigest", "missingVerityAllowed!"],
      ],
      FilesystemOverlay: ["accessMode!", "persistence!"],
    });
  });

  test("closed sets of words", () => {
    const words = Object.entries(definitions).flatMap(([name, definition]) =>
      definition.enum === undefined ? [] : [[name, definition.enum]],
    );
    expect(Object.fromEntries(words)).toEqual({
      BootOrder: ["default", "rollback"],
      BootType: ["Bls", "Uki"],
      FailureReason: ["initramfs", "verity", "unit", "watchdog", "unknown"],
      Bootloader: ["grub", "grub-cc", "systemd", "none"],
      HostType: ["bootcHost"],
      TrustMode: ["sealed", "signed", "ostree-signed", "unlocked"],
      VerityMode: ["enforced", "optional", "none"],
      SecureBoot: ["enabled", "disabled", "setup", "unsupported"],
      FloorSource: ["tpm", "esp", "none"],
      Store: ["ostreeContainer"],
      FilesystemOverlayAccessMode: ["readOnly", "readWrite"],
      FilesystemOverlayPersistence: ["transient", "persistent"],
    });
  });

  test("unknown fields of other releases are allowed, except in a signature", () => {
    const closed = JSON.stringify(schema).match(/"additionalProperties":false/g);
    expect(closed).toHaveLength(1);
  });
});

const PUBLISHED: Readonly<Record<string, unknown>> = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../test/vectors/bootc/host-v1.schema.json"), "utf8"),
);

/** Every field that there is to fill. */
function fullHost() {
  const image = { transport: "registry", image: "quay.io/os:1", signature: "insecure" } as const;
  const cachedUpdate = {
    reference: "",
    manifestDigest: `sha256:${"17".repeat(32)}`,
    version: "13.2",
    timestamp: null,
    architecture: "arm64",
    checkedAt: "2026-11-22T15:00:00Z",
  };
  const policy = {
    policyFile: "/etc/containers/policy.json",
    scope: "default",
    requirements: [{ type: "signedBy", key: "ab", identity: "quay.io/os", digest: "sha256:00" }],
    time: "2026-11-22T15:00:00Z",
  };
  return makeHost(
    makeHostState({
      booted: makeDeployment({ image, cachedUpdate, policy, pinned: true, trust: makeTrust() }),
      staged: makeDeployment({ downloadOnly: true, softRebootCapable: true, bootDigest: null }),
      rollback: makeDeployment({ image: null, bootType: "uki", bootloader: "grub-cc" }),
      others: [makeDeployment({ version: null, timestamp: null })],
      rollbackQueued: true,
      usrOverlay: { readOnly: true },
      readOnly: true,
      failures: [makeFailure()],
      trust: makeMachineTrust(),
      problems: ["x"],
    }),
  );
}

describe("beside bootc's published schema", () => {
  const ours = hostJsonSchema();

  test("ours has every field, requires none more, and knows every word", () => {
    expect(listContradictions(PUBLISHED, ours)).toEqual([]);
  });

  test("the comparison finds what is missing", () => {
    const copy = structuredClone(ours) as { $defs: Record<string, Record<string, unknown>> };
    delete (copy.$defs["BootEntry"]!["properties"] as Record<string, unknown>)["pinned"];
    (copy.$defs["HostSpec"] as Record<string, unknown>)["required"] = ["image"];
    copy.$defs["Bootloader"]!["enum"] = ["grub"];
    expect(listContradictions(PUBLISHED, copy)).toEqual([
      "HostSpec requires image",
      "BootEntry has no pinned",
      "Bootloader has no grub-cc",
      "Bootloader has no systemd",
      "Bootloader has no none",
    ]);
  });

  test.each([
    ["full", fullHost()],
    ["empty", makeEmptyHost()],
    ["booted", makeHost(makeHostState())],
  ])("both accept our documents: %s", (_, host) => {
    const document = JSON.parse(JSON.stringify(host));
    const published = z.fromJSONSchema(PUBLISHED as Parameters<typeof z.fromJSONSchema>[0]);
    expect(published.safeParse(document).error?.issues ?? []).toEqual([]);
    expect(parseHost(document)).toEqual(document);
  });

  test("the published schema is a real one: it refuses what it should", () => {
    const published = z.fromJSONSchema(PUBLISHED as Parameters<typeof z.fromJSONSchema>[0]);
    const host = structuredClone(fullHost()) as { status: { booted: unknown; type: unknown } };
    host.status.type = "other";
    expect(published.safeParse(host).success).toBe(false);
    host.status.type = null;
    host.status.booted = { incompatible: false };
    expect(published.safeParse(host).success).toBe(false);
  });
});

describe("parseHost", () => {
  test("old and sparse documents get what they lack", () => {
    const host = parseHost({ apiVersion: "org.containers.bootc/v1alpha1", kind: "BootcHost" });
    expect(host.spec).toEqual({ image: null, bootOrder: "default" });
    expect(host.status.booted).toBeNull();
  });

  test.each([
    [{}, /"apiVersion" is wrong/],
    [[], /It is wrong/],
    [
      { apiVersion: "a", kind: "b", spec: { image: { image: 1, transport: "oci" } } },
      /"spec.image.image" is wrong/,
    ],
    [{ apiVersion: "a", kind: "b", spec: { bootOrder: "x" } }, /"spec.bootOrder" is wrong/],
  ])("%j is refused with the field's name", (value, message) => {
    expect(() => parseHost(value)).toThrow(message);
  });
});

type Definitions = Readonly<Record<string, Schema>>;

/** What a document that bootc's schema allows may have and ours would not take. */
function listContradictions(theirs: object, ours: object): string[] {
  const definitionsOf = (schema: object) =>
    ({ Host: schema, ...(schema as { $defs: Definitions }).$defs }) as Definitions;
  const own = definitionsOf(ours);
  return Object.entries(definitionsOf(theirs)).flatMap(([name, published]) => {
    const mine = own[name];
    if (mine === undefined) return [`there is no ${name}`];
    const missing = (all: readonly string[], some: readonly string[]) =>
      all.filter((each) => !some.includes(each));
    const fields = Object.keys(published.properties ?? {});
    return [
      ...missing(fields, Object.keys(mine.properties ?? {})).map(
        (each) => `${name} has no ${each}`,
      ),
      ...missing(mine.required ?? [], published.required ?? []).map(
        (each) => `${name} requires ${each}`,
      ),
      ...missing(published.enum ?? [], mine.enum ?? []).map((each) => `${name} has no ${each}`),
    ];
  });
}
