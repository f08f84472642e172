import { describe, expect, test } from "vitest";
import { hostJsonSchema } from "./host.ts";

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
        ...["usrOverlay", "readOnly", "problems"],
      ],
      BootEntry: [
        ...["image", "cachedUpdate", "incompatible!", "pinned!", "softRebootCapable"],
        ...["downloadOnly", "store", "ostree", "composefs", "signaturePolicy"],
      ],
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
      Bootloader: ["grub", "grub-cc", "systemd", "none"],
      HostType: ["bootcHost"],
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
