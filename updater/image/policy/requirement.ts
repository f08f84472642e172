// What a policy may require of an image (containers-policy.json(5)): the requirements of policy.json
// as checked values. An unknown field or type refuses the whole file, as there: a typo in a policy must
// never weaken it.

import * as z from "zod";
import { isReferencePrefix, parseDockerReference } from "./docker-reference.ts";

/** Bytes in base64, e.g. of a key. */
const dataSchema = z
  .string()
  .refine(
    (text) => /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(unwrap(text)),
    "is not base64",
  )
  .transform((text) => new Uint8Array(Buffer.from(unwrap(text), "base64")));
const pathSchema = z.string().min(1);
const pathsSchema = z.array(pathSchema).min(1);
const datasSchema = z.array(dataSchema).min(1);

const prefixSchema = z
  .string()
  .refine(isReferencePrefix, "is neither a host nor the full name of a namespace or repository");

const identitySchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("matchExact") }),
  z.strictObject({ type: z.literal("matchRepoDigestOrExact") }),
  z.strictObject({ type: z.literal("matchRepository") }),
  z.strictObject({
    type: z.literal("exactReference"),
    dockerReference: z.string().refine((text) => {
      const reference = parseDockerReference(text);
      return reference !== null && (reference.tag !== null || reference.digest !== null);
    }, "is not a reference with a tag or digest"),
  }),
  z.strictObject({
    type: z.literal("exactRepository"),
    dockerRepository: z
      .string()
      .refine((text) => parseDockerReference(text) !== null, "is not the name of a repository"),
  }),
  z.strictObject({
    type: z.literal("remapIdentity"),
    prefix: prefixSchema,
    signedPrefix: prefixSchema,
  }),
]);
/** Which name a signature must give the image. */
export type SignedIdentity = z.infer<typeof identitySchema>;
const signedIdentity = identitySchema.default({ type: "matchRepoDigestOrExact" });

const signedBySchema = z
  .strictObject({
    type: z.literal("signedBy"),
    keyType: z.enum(["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"]),
    keyPath: pathSchema.optional(),
    keyPaths: pathsSchema.optional(),
    keyData: dataSchema.optional(),
    signedIdentity,
  })
  .refine(
    (value) => countPresent(value.keyPath, value.keyPaths, value.keyData) === 1,
    "needs exactly one of keyPath, keyPaths and keyData",
  );
export type SignedBy = z.infer<typeof signedBySchema>;

const fulcioSchema = z
  .strictObject({
    caPath: pathSchema.optional(),
    caData: dataSchema.optional(),
    oidcIssuer: z.string().min(1),
    subjectEmail: z.string().min(1),
  })
  .refine(
    (value) => countPresent(value.caPath, value.caData) === 1,
    "needs exactly one of caPath and caData",
  );
export type Fulcio = z.infer<typeof fulcioSchema>;

const pkiSchema = z
  .strictObject({
    caRootsPath: pathSchema.optional(),
    caRootsData: dataSchema.optional(),
    caIntermediatesPath: pathSchema.optional(),
    caIntermediatesData: dataSchema.optional(),
    subjectEmail: z.string().min(1).optional(),
    subjectHostname: z.string().min(1).optional(),
  })
  .refine(
    (value) => countPresent(value.caRootsPath, value.caRootsData) === 1,
    "needs exactly one of caRootsPath and caRootsData",
  )
  .refine(
    (value) => countPresent(value.caIntermediatesPath, value.caIntermediatesData) <= 1,
    "takes one of caIntermediatesPath and caIntermediatesData at most",
  )
  .refine(
    (value) => countPresent(value.subjectEmail, value.subjectHostname) > 0,
    "needs subjectEmail or subjectHostname",
  );
export type Pki = z.infer<typeof pkiSchema>;

const sigstoreSignedSchema = z
  .strictObject({
    type: z.literal("sigstoreSigned"),
    keyPath: pathSchema.optional(),
    keyPaths: pathsSchema.optional(),
    keyData: dataSchema.optional(),
    keyDatas: datasSchema.optional(),
    fulcio: fulcioSchema.optional(),
    pki: pkiSchema.optional(),
    rekorPublicKeyPath: pathSchema.optional(),
    rekorPublicKeyPaths: pathsSchema.optional(),
    rekorPublicKeyData: dataSchema.optional(),
    rekorPublicKeyDatas: datasSchema.optional(),
    signedIdentity,
  })
  .refine(
    (value) =>
      countPresent(
        ...[value.keyPath, value.keyPaths, value.keyData, value.keyDatas],
        ...[value.fulcio, value.pki],
      ) === 1,
    "needs exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki",
  )
  .refine(
    (value) => countRekor(value) <= 1,
    "takes one of rekorPublicKeyPath, -Paths, -Data and -Datas at most",
  )
  .refine(
    (value) => value.fulcio === undefined || countRekor(value) === 1,
    "with fulcio needs a Rekor public key, which says when the certificate was used",
  );
export type SigstoreSigned = z.infer<typeof sigstoreSignedSchema>;

const requirementSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("insecureAcceptAnything") }),
  z.strictObject({ type: z.literal("reject") }),
  signedBySchema,
  sigstoreSignedSchema,
  // Named by the manual page's authors and implemented by nobody: refuses every image.
  z.strictObject({ type: z.literal("signedBaseLayer"), baseLayerIdentity: identitySchema }),
]);
export type Requirement = z.infer<typeof requirementSchema>;

/** All of them must hold. */
export const requirementsSchema = z.array(requirementSchema).min(1, "must not be empty");

interface RekorKeys {
  readonly rekorPublicKeyPath?: unknown;
  readonly rekorPublicKeyPaths?: unknown;
  readonly rekorPublicKeyData?: unknown;
  readonly rekorPublicKeyDatas?: unknown;
}

function countRekor(value: RekorKeys): number {
  const { rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData, rekorPublicKeyDatas } =
    value;
  return countPresent(
    ...[rekorPublicKeyPath, rekorPublicKeyPaths],
    ...[rekorPublicKeyData, rekorPublicKeyDatas],
  );
}

function countPresent(...values: readonly unknown[]): number {
  return values.filter((value) => value !== undefined).length;
}

/** Line ends are allowed in it. */
function unwrap(text: string): string {
  return text.replace(/[\r\n]/g, "");
}
