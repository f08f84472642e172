// The Host document `org.containers.bootc/v1`: what `bootc status` prints and `bootc edit` takes
// (bootc.md 2.2). Field order is the order of upstream's output. Unknown fields are dropped when
// reading, optional ones get their defaults, so that documents of older and newer releases load.
//
// docs/host-v1.schema.json is made from here, a superset of upstream's: `failedDeployments`, `problems`,
// `signaturePolicy` and `trust` are additions, absent when there is nothing to say.

import * as z from "zod";
import { FormatError } from "../../shared/error.ts";

export const API_VERSION = "org.containers.bootc/v1";
export const HOST_KIND = "BootcHost";

const nullable = <T extends z.ZodType>(schema: T) => schema.nullable().default(null);

const Metadata = z
  .object({
    name: z.string().nullable().optional(),
    namespace: z.string().nullable().optional(),
    labels: z.record(z.string(), z.string()).nullable().optional(),
    annotations: z.record(z.string(), z.string()).nullable().optional(),
  })
  .meta({ id: "ObjectMeta" });

const ImageSignature = z
  .union([
    z
      .strictObject({ ostreeRemote: z.string() })
      .describe("Verify the ostree commit's signature with this ostree remote's keys"),
    z.literal("containerPolicy").describe("Verify as containers-policy.json says"),
    z.literal("insecure").describe("Do not verify signatures"),
  ])
  .meta({ id: "ImageSignature", description: "How an image's signature is checked" });

const ImageReference = z
  .object({
    image: z.string().describe("Name of the image in its transport"),
    transport: z.string().describe('Where the image is found, such as "registry" or "oci"'),
    signature: ImageSignature.nullable().optional(),
  })
  .meta({ id: "ImageReference", description: "A container image and how to get it" });

const BootOrder = z
  .enum(["default", "rollback"])
  .meta({ id: "BootOrder", description: "What boots next: the newest deployment or the rollback" });

const HostSpec = z
  .object({
    image: nullable(ImageReference).describe("The image the host is to run"),
    bootOrder: BootOrder.default("default"),
  })
  .meta({ id: "HostSpec", description: "What the host is asked to be" });

const ImageStatus = z
  .object({
    image: ImageReference,
    version: nullable(z.string()).describe("The image's own version text"),
    timestamp: nullable(z.string().meta({ format: "date-time" })).describe("When it was built"),
    imageDigest: z.string().describe("Digest of the manifest, such as sha256:a0…"),
    architecture: z.string(),
  })
  .meta({ id: "ImageStatus", description: "A fetched image" });

const BootEntryOstree = z
  .object({
    stateroot: z.string().describe("Name of the place that /etc and /var belong to"),
    checksum: z.string().describe("The ostree commit"),
    deploySerial: z.uint32().meta({ format: "uint32" }),
  })
  .meta({ id: "BootEntryOstree", description: "State of an ostree deployment" });

const BootEntryComposefs = z
  .object({
    verity: z.string().describe("fs-verity digest of the EROFS image; the deployment's id"),
    bootType: z
      .enum(["Bls", "Uki"])
      .meta({ id: "BootType", description: "Separate kernel and initramfs, or a unified kernel" }),
    bootloader: z
      .enum(["grub", "grub-cc", "systemd", "none"])
      .meta({ id: "Bootloader", description: "What starts the deployment" }),
    bootDigest: nullable(z.string()).describe("SHA-256 over kernel and initramfs"),
    missingVerityAllowed: z.boolean().describe("Whether fs-verity is optional"),
  })
  .meta({ id: "BootEntryComposefs", description: "State of a composefs deployment" });

const SignaturePolicy = z
  .object({
    policyFile: nullable(z.string()).describe("The policy.json; null when there was none"),
    scope: z.string().describe("Which part of the policy applied"),
    requirements: z
      .array(
        z.object({
          type: z.string().describe('As in policy.json, such as "signedBy"'),
          key: z
            .string()
            .optional()
            .describe("The signer: fingerprint or path of a key, or the name in a certificate"),
          identity: z.string().optional().describe("The name that the signature gives the image"),
          digest: z.string().optional().describe("What was signed: manifest or index"),
        }),
      )
      .describe("All were met"),
    time: z.string().meta({ format: "date-time" }).describe("When it was decided"),
  })
  .meta({ id: "SignaturePolicy", description: "How the image was accepted" });
export type SignaturePolicy = z.infer<typeof SignaturePolicy>;

const TRUST_MODES = ["sealed", "signed", "ostree-signed", "unlocked"] as const;

const DeploymentTrust = z
  .object({
    mode: z
      .enum(TRUST_MODES)
      .meta({ id: "TrustMode", description: "What decides whether the deployment may start" }),
    sealed: z
      .boolean()
      .describe(
        "The command line in its unified kernel names the image; the mode is only sealed with Secure Boot",
      ),
    key: nullable(
      z.object({
        name: z.string().describe("Name of the key's file"),
        fingerprint: nullable(z.string()).describe("Hex SHA-256 of the public key"),
      }),
    ).describe("Whose signature counted"),
    version: nullable(z.int().nonnegative()).describe(
      "The image's version in its signed statement",
    ),
    expires: nullable(z.string().meta({ format: "date-time" })).describe("When it stops starting"),
    verity: z
      .enum(["enforced", "optional", "none"])
      .meta({ id: "VerityMode", description: "Whether the kernel checks every file that is read" }),
    refusal: nullable(z.string()).describe("Why it would be refused when it is started"),
  })
  .meta({ id: "DeploymentTrust", description: "How a deployment proves what it is" });
export type DeploymentTrust = z.infer<typeof DeploymentTrust>;

const MachineTrust = z
  .object({
    secureBoot: z
      .enum(["enabled", "disabled", "setup", "unsupported"])
      .meta({ id: "SecureBoot", description: "Whether the firmware checks what it starts" }),
    tpm: z.boolean().describe("Whether there is a TPM 2.0"),
    floor: z
      .object({
        version: nullable(z.int().nonnegative()),
        source: z.enum(["tpm", "esp", "none"]).meta({ id: "FloorSource" }),
      })
      .describe("Signed images of a lower version do not start"),
    next: nullable(
      z.object({
        mode: z.enum(TRUST_MODES),
        needs: z.array(z.string()).describe("One sentence each"),
      }),
    ).describe("What the next stronger mode needs; null: there is none"),
  })
  .meta({ id: "MachineTrust", description: "What this machine does for the trust in its images" });
export type MachineTrust = z.infer<typeof MachineTrust>;

const BootEntry = z
  .object({
    image: nullable(ImageStatus),
    cachedUpdate: nullable(ImageStatus).describe("The update found by the last check"),
    incompatible: z.boolean().describe("Has local changes that bootc cannot represent"),
    pinned: z.boolean().describe("Never removed by garbage collection"),
    softRebootCapable: z.boolean().default(false).describe("Can be entered without a full reboot"),
    downloadOnly: z.boolean().default(false).describe("Stays staged over shutdown until released"),
    store: nullable(z.enum(["ostreeContainer"]).meta({ id: "Store" })),
    ostree: nullable(BootEntryOstree),
    composefs: nullable(BootEntryComposefs),
    signaturePolicy: SignaturePolicy.optional().describe(
      "How policy.json accepted the image, where that was recorded; not in upstream's schema",
    ),
    trust: DeploymentTrust.optional().describe(
      "How the deployment proves what it is; not in upstream's schema",
    ),
  })
  .meta({ id: "BootEntry", description: "A deployment that can be booted" });

const FilesystemOverlay = z
  .object({
    accessMode: z.enum(["readOnly", "readWrite"]).meta({ id: "FilesystemOverlayAccessMode" }),
    persistence: z.enum(["transient", "persistent"]).meta({ id: "FilesystemOverlayPersistence" }),
  })
  .meta({ id: "FilesystemOverlay", description: "An overlay on /usr" });

const FailedDeployment = z
  .object({
    verity: z.string().describe("fs-verity digest of the EROFS image; the deployment's id"),
    image: nullable(ImageReference),
    imageDigest: nullable(z.string()).describe("Digest of the manifest"),
    failedAt: z.string().meta({ format: "date-time" }).describe("When it last failed to start"),
    reason: z
      .enum(["initramfs", "verity", "unit", "watchdog", "unknown"])
      .meta({ id: "FailureReason", description: "What kept it from starting" }),
    detail: nullable(z.string()).describe("One sentence, such as which unit failed"),
    attempts: z.int().nonnegative().describe("How often it was tried"),
    retrying: z.boolean().default(false).describe("Is tried again because somebody asked for it"),
  })
  .meta({
    id: "FailedDeployment",
    description: "An image that did not start here and is not staged again",
  });

const HostStatus = z
  .object({
    staged: nullable(BootEntry).describe("Takes over at the next reboot"),
    booted: nullable(BootEntry).describe("Is running; null on a system without bootc"),
    rollback: nullable(BootEntry).describe("What `bootc rollback` goes back to"),
    otherDeployments: z
      .array(BootEntry)
      .optional()
      .describe("More deployments, such as pinned ones"),
    rollbackQueued: z.boolean().default(false).describe("The rollback boots next"),
    type: nullable(z.enum(["bootcHost"]).meta({ id: "HostType" })),
    usrOverlay: nullable(FilesystemOverlay),
    readOnly: z.boolean().default(false).describe("The physical root is on a read-only device"),
    failedDeployments: z
      .array(FailedDeployment)
      .optional()
      .describe("What did not start, newest last; not in upstream's schema"),
    trust: MachineTrust.optional().describe(
      "What this machine does for the trust in its images; not in upstream's schema",
    ),
    problems: z
      .array(z.string())
      .optional()
      .describe("Broken entries, origins or state, one sentence each; not in upstream's schema"),
  })
  .meta({ id: "HostStatus", description: "What the host is" });

const HostDocument = z
  .object({
    apiVersion: z.string(),
    kind: z.string(),
    metadata: Metadata.default({}),
    spec: HostSpec.default({ image: null, bootOrder: "default" }),
    status: HostStatus.prefault({}),
  })
  .meta({ title: "Host", description: "A bootc host" });

export type Host = z.infer<typeof HostDocument>;
export type HostStatus = z.infer<typeof HostStatus>;
export type BootEntry = z.infer<typeof BootEntry>;
export type FailedDeployment = z.infer<typeof FailedDeployment>;
export type ImageStatus = z.infer<typeof ImageStatus>;

/** FormatError that names what is wrong with it. `value` is a parsed document of any release. */
export function parseHost(value: unknown): Host {
  const result = HostDocument.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = issue?.path.map(String).join(".") ?? "";
  const where = field === "" ? "It" : `Its "${field}"`;
  throw new FormatError(
    "bad-value",
    `This is no host document. ${where} is wrong: ${issue?.message}`,
    {
      format: "host",
      field,
    },
  );
}

/** JSON Schema (2020-12) of the documents that are accepted; fields with a default are optional. */
export function hostJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(HostDocument, { target: "draft-2020-12", io: "input" });
}
