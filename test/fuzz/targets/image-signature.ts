// Fuzz target: signatures of images and policies. Whatever is done to the bytes of a genuine signature, it is
// accepted for what it said at first, or not at all.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseClaim } from "../../../updater/image/policy/payload.ts";
import { parsePolicy } from "../../../updater/image/policy/policy-file.ts";
import { parseSignatureFile } from "../../../updater/image/policy/signature-source.ts";
import { verifyAttachment } from "../../../updater/image/policy/sigstore-attachment.ts";
import { verifyBundle } from "../../../updater/image/policy/sigstore-bundle.ts";
import { loadSigstoreTrust } from "../../../updater/image/policy/sigstore-signer.ts";
import { SignatureRejection } from "../../../updater/image/policy/verdict.ts";
import keys from "../../vectors/signatures/trust.json" with { type: "json" };
import { checkEqual, type FuzzTarget } from "../target.ts";

const MANIFEST = Buffer.from("{}");
const DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const NAME = "quay.io/example/os";
const SIGNER = "builder@example.com (https://issuer.example.com)";
const VECTORS = "test/vectors/signatures";
const ERRORS = ["FormatError", "PolicyError", "SignatureRejection"];
const MARK = "\0sigstore-json\n";
const POLICY = {
  default: [{ type: "reject" }],
  transports: {
    docker: {
      "*.example.com": [{ type: "signedBy", keyType: "GPGKeys", keyData: "aGFsbG8=" }],
      "quay.io/x:1": [
        {
          type: "sigstoreSigned",
          keyPaths: ["/a"],
          signedIdentity: { type: "remapIdentity", prefix: "a", signedPrefix: "b/c" },
        },
      ],
    },
    dir: { "/a/b": [{ type: "insecureAcceptAnything" }] },
  },
};

const TRUST = loadSigstoreTrust({
  type: "sigstoreSigned",
  fulcio: {
    caData: Buffer.from(keys.authority),
    oidcIssuer: "https://issuer.example.com",
    subjectEmail: "builder@example.com",
  },
  rekorPublicKeyData: Buffer.from(keys.rekor),
  signedIdentity: { type: "matchRepository" },
});

export const target: FuzzTarget = {
  focus:
    /^updater\/image\/policy\/(certificate|payload|policy-file|rekor-entry|requirement|signature-source|sigstore-\w+|strict-json)\.ts/,
  maxBytes: 16 << 10,
  errors: ERRORS,
  words: [
    ...'"payload":|"annotations":|"dsseEnvelope":|"messageSignature":|"tlogEntries":[|"sig":|{}|[]|null'.split(
      "|",
    ),
    ...'"critical":|"image":|"identity":|"type":"|"keyPath":"|"reject"|"insecureAcceptAnything"'.split(
      "|",
    ),
    ...`${MARK}|"certificate":{"rawBytes":"|"integratedTime":"|"inclusionPromise":|\\u0061`.split(
      "|",
    ),
  ],
  // Certificates and signatures are work that does not depend on the input's length.
  stepsPerByte: 20_000,
  seeds: function* (root) {
    const read = (name: string) => readFileSync(join(root, VECTORS, name));
    const attachment = JSON.parse(read("attachment.json").toString()) as Attachment;
    yield read("bundle.json");
    yield Buffer.from(`${MARK}${JSON.stringify(makeFile(attachment))}`);
    yield Buffer.from(attachment.payload);
    yield Buffer.from(JSON.stringify(POLICY));
  },
  check(input) {
    const accepted = [
      isAccepted(() => checkBundle(input)),
      isAccepted(() => checkFile(input)),
      isAccepted(() => parseClaim(input, "cosign")),
      isAccepted(() => parsePolicy(input, "policy.json")),
    ];
    return accepted.includes(true);
  },
};

/** Refusals of the documented kinds only. */
function isAccepted(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (ERRORS.includes((error as Error).name)) return false;
    throw error;
  }
}

interface Attachment {
  readonly payload: string;
  readonly annotations: Readonly<Record<string, string>>;
}

function makeFile({ payload, annotations }: Attachment) {
  return {
    mimeType: "application/vnd.dev.cosign.simplesigning.v1+json",
    payload: Buffer.from(payload).toString("base64"),
    annotations,
  };
}

function checkBundle(input: Uint8Array): void {
  const subject = { digest: DIGEST, bytes: MANIFEST, repository: NAME };
  const accepted = verifyBundle(input, subject, TRUST);
  const expected = { key: SIGNER, name: NAME, manifestDigest: DIGEST };
  checkEqual(JSON.stringify(accepted), JSON.stringify(expected), "A bundle");
}

function checkFile(input: Uint8Array): void {
  const found = parseSignatureFile(input, "signature-1");
  if (found?.kind !== "attachment") throw new SignatureRejection("no Sigstore signature");
  const accepted = verifyAttachment(found, TRUST);
  const expected = { key: SIGNER, name: `${NAME}:v1`, manifestDigest: DIGEST };
  checkEqual(JSON.stringify(accepted), JSON.stringify(expected), "An attachment");
}
