// Does an image have a signature that meets one requirement? Signatures are fetched as they are needed:
// the first that counts ends the search.

import { PolicyError, StateError, UnsupportedError } from "../../../shared/error.ts";
import type { ResolvedDocument } from "../resolved-image.ts";
import { type DockerReference, parseDockerReference } from "./docker-reference.ts";
import { verifyGpgMessage } from "./gpg-signature.ts";
import { parseClaim } from "./payload.ts";
import type { SignedBy, SigstoreSigned } from "./requirement.ts";
import {
  type FoundSignature,
  MAX_SIGNATURES,
  type SignatureSource,
  type WantedKinds,
} from "./signature-source.ts";
import { matchesIdentity } from "./signed-identity.ts";
import { loadBytes } from "./trusted-key.ts";
import { type AcceptedSignature, SignatureRejection } from "./verdict.ts";

/** A signature and the document beside which it was found. */
interface ListedSignature {
  readonly found: FoundSignature;
  readonly document: ResolvedDocument;
}

/** Can be walked through several times; nothing is fetched twice. */
export type SignatureList = AsyncIterable<ListedSignature>;

export type Satisfaction =
  | { readonly kind: "accepted"; readonly signature: AcceptedSignature }
  | {
      readonly kind: "refused";
      /** One for each signature of the kind that was looked at. */
      readonly reasons: readonly string[];
      /** Whose signature is wanted: keys, or a person. */
      readonly wanted: string;
    };

/** Of the manifest and of the indexes that led to it. `source` null: the transport has none. */
export function openSignatureList(
  source: SignatureSource | null,
  documents: readonly ResolvedDocument[],
  wanted: WantedKinds,
): SignatureList {
  const known: ListedSignature[] = [];
  const rest = source === null ? null : walkDocuments(source, documents, wanted);
  return {
    async *[Symbol.asyncIterator]() {
      for (let index = 0; index < MAX_SIGNATURES; index++) {
        if (index >= known.length) {
          const next = await rest?.next();
          if (next === undefined || next.done === true) return;
          known.push(next.value);
        }
        const listed = known[index];
        if (listed !== undefined) yield listed;
      }
    },
  };
}

async function* walkDocuments(
  source: SignatureSource,
  documents: readonly ResolvedDocument[],
  wanted: WantedKinds,
): AsyncGenerator<ListedSignature> {
  for (const document of documents)
    for await (const found of source.readSignatures(document.digest, wanted))
      yield { found, document };
}

type Judge = (listed: ListedSignature) => AcceptedSignature | null;

/** PolicyError when a key of the requirement cannot be used; errors of fetching signatures. */
export async function satisfyRequirement(
  requirement: SignedBy | SigstoreSigned,
  image: DockerReference | null,
  signatures: SignatureList,
): Promise<Satisfaction> {
  const { judge, wanted } =
    requirement.type === "signedBy"
      ? openGpgJudge(requirement)
      : await openSigstoreJudge(requirement, image);
  const reasons: string[] = [];
  for await (const listed of signatures) {
    try {
      const signature = judge(listed);
      if (signature === null) continue;
      if (signature.manifestDigest !== listed.document.digest) {
        throw new SignatureRejection(`it is of another image, ${signature.manifestDigest}`);
      }
      if (!matchesIdentity(requirement.signedIdentity, image, signature.name)) {
        throw new SignatureRejection(explainMismatch(signature.name, requirement));
      }
      return { kind: "accepted", signature };
    } catch (error) {
      // Whatever odd bytes do to a parser, they must not hide the good signature that comes after them.
      if (!(error instanceof Error) || isOurFault(error)) throw error;
      reasons.push(describeRejection(error));
    }
  }
  return { kind: "refused", reasons, wanted };
}

function openGpgJudge(requirement: SignedBy): { readonly judge: Judge; readonly wanted: string } {
  const { keyType, keyPath: path, keyPaths: paths, keyData: data } = requirement;
  if (keyType !== "GPGKeys") {
    throw new PolicyError("untrusted-key", `keyType "${keyType}" is not supported by any program`);
  }
  const keyrings = loadBytes({ field: "key", path, paths, data });
  const bytes = keyrings.map((keyring) => keyring.bytes);
  return {
    wanted: `a key of ${keyrings.map(({ name }) => `"${name}"`).join(", ")}`,
    judge: ({ found }) => {
      if (found.kind !== "simple") return null;
      const { payload, fingerprint } = verifyGpgMessage(found.bytes, bytes);
      return { key: fingerprint, ...parseClaim(payload, "simple") };
    },
  };
}

async function openSigstoreJudge(
  requirement: SigstoreSigned,
  image: DockerReference | null,
): Promise<{ readonly judge: Judge; readonly wanted: string }> {
  // Much code, which most runs of the program do not need.
  const { loadSigstoreTrust } = await import("./sigstore-signer.ts");
  const { verifyAttachment } = await import("./sigstore-attachment.ts");
  const { verifyBundle } = await import("./sigstore-bundle.ts");
  const trust = loadSigstoreTrust(requirement);
  const { signer } = trust;
  const wanted =
    signer.kind === "keys"
      ? `key ${signer.keys.map(({ name }) => `"${name}"`).join(", ")}`
      : `"${signer.email ?? signer.host}"`;
  return {
    wanted,
    judge: ({ found, document }) => {
      if (found.kind === "attachment") return verifyAttachment(found, trust);
      if (found.kind !== "bundle") return null;
      const repository = image?.name ?? null;
      return verifyBundle(found.json, { ...document, repository }, trust);
    },
  };
}

/** cosign's signatures name no tag unless they are told to, which is easily overlooked. */
function explainMismatch(name: string, { signedIdentity }: SignedBy | SigstoreSigned): string {
  const { type } = signedIdentity;
  const claim = parseDockerReference(name);
  const isTagless = claim !== null && claim.tag === null && claim.digest === null;
  const comparesTags = ["matchExact", "matchRepoDigestOrExact", "remapIdentity"].includes(type);
  return isTagless && comparesTags
    ? `it names "${name}" and no tag, which ${type} asks for and matchRepository would not`
    : `it is of an image named "${name}" (${type})`;
}

/** Nothing that another signature would change: a program is missing, a key cannot be used. */
function isOurFault(error: Error): boolean {
  return (
    error instanceof PolicyError || error instanceof UnsupportedError || error instanceof StateError
  );
}

function describeRejection(error: Error): string {
  const { cause } = error;
  return cause instanceof Error ? `${error.message} (${cause.message})` : error.message;
}
