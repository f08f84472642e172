// `bootc container sign`: a signed statement that an image may start (docs/signing.md, decision 0021).
//
// Keys are opened first: an image takes a while to unpack, and whoever is asked for a PIN is still there.

import { resolve } from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { isErrno, StateError, UsageError } from "../../shared/error.ts";
import { describeKey, type TrustKey } from "../../shared/format/trust/key.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import { readSignableImage, type SignableImage } from "../container/sign-image.ts";
import {
  type AttachedStatement,
  type Attachment,
  attachStatement,
  requireLayout,
} from "../container/sign-layout.ts";
import {
  makeDocument,
  planSigning,
  requireNewSigners,
  type SignPlan,
} from "../container/sign-plan.ts";
import {
  openSigningKey,
  readForeignSignature,
  readPublicKeys,
  type SigningKey,
  signStatement,
} from "../container/signing-key.ts";
import { type ImageReference, parseTransportReference } from "../image/reference.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { collectMore, parseStatementTime, parseStatementVersion } from "./container-text.ts";
import { watchInterruption } from "./interruption.ts";
import { formatPlan } from "./plan-text.ts";
import type { Terminal } from "./terminal.ts";

interface SignOptions {
  readonly key?: readonly string[] | undefined;
  readonly signature?: readonly string[] | undefined;
  readonly publicKey?: readonly string[] | undefined;
  readonly signedBy?: readonly string[] | undefined;
  readonly unsigned?: true | undefined;
  readonly version?: number | undefined;
  readonly expires?: string | undefined;
  readonly output?: string | undefined;
  readonly attach?: Attachment | undefined;
  readonly force?: true | undefined;
  readonly dryRun?: true | undefined;
  readonly format: "human" | "json";
}

export function makeSignCommand(terminal: Terminal) {
  return new Command("sign")
    .description("Sign the statement that an image may start, and attach it to the image")
    .argument("<image>", 'e.g. "oci:/path:tag"; other transports only with --output')
    .option("--key <key>", 'Ed25519 key: a file in PEM, or "pkcs11:…"; again for more', collectMore)
    .option("--version <number>", "of the image; grows with every image", parseStatementVersion)
    .option("--expires <time>", "from when on it does not start any more (UTC)", parseStatementTime)
    .addOption(
      new Option("--attach <how>", "to the image (default: annotation)").choices([
        "annotation",
        "referrer",
      ] as const),
    )
    .option("--output <file>", "write the signed statement there")
    .option("--unsigned", "only print the statement, to be signed elsewhere (--output: to a file)")
    .option(
      "--signature <file>",
      "64 bytes that were made elsewhere; needs --public-key",
      collectMore,
    )
    .option("--public-key <file>", "of --signature", collectMore)
    .option(
      "--signed-by <file>",
      "public key: sign what this one signed, without --version",
      collectMore,
    )
    .option("--force", "also below the version that is there, and again by the same key")
    .option("--dry-run", "only print what would be done, as JSON")
    .addOption(
      new Option("--format <format>", "of the report")
        .choices(["human", "json"] as const)
        .default("human" as const),
    )
    .action(async (image, options) => {
      const reference = parseTransportReference(image);
      checkOptions(options, reference);
      const onlyPlans = options.dryRun === true || options.unsigned === true;
      const keys = onlyPlans ? [] : (options.key ?? []).map(openSigningKey);
      const signedBy = (options.signedBy ?? []).flatMap(readPublicKeys);
      using interruption = watchInterruption();
      const found = await readSignableImage(reference, interruption.signal);
      const plan = planSigning({
        digest: found.digest,
        format: found.format,
        version: options.version ?? null,
        expires: options.expires ?? null,
        signedBy,
        force: options.force === true,
        existing: found.statements,
      });
      warnAboutExpiry(terminal, plan);
      if (options.dryRun === true) terminal.write(formatPlan(describePlan(plan, found, options)));
      else if (options.unsigned === true) writeUnsigned(terminal, plan, options);
      else sign(terminal, { reference, found, plan, keys, options });
    });
}

/** The year of a time is easily wrong, and nothing says so before a machine refuses the image. */
function warnAboutExpiry(terminal: Terminal, { statement: { expires } }: SignPlan): void {
  if (expires === null || Date.parse(expires) > Date.now()) return;
  terminal.note(
    `The statement expires at ${expires}, which is over: machines refuse the image, but for those with expired=warn`,
  );
}

interface Signing {
  readonly reference: ImageReference;
  readonly found: SignableImage;
  readonly plan: SignPlan;
  readonly keys: readonly SigningKey[];
  readonly options: SignOptions;
}

function sign(terminal: Terminal, signing: Signing): void {
  const { reference, found, plan, keys: own, options } = signing;
  const foreign = (options.signature ?? []).map((path, index) =>
    readForeignSignature(path, options.publicKey![index]!, plan.text),
  );
  const keys = [...foreign, ...own].map(({ key }) => key);
  requireNewSigners(plan, keys, options.force === true);
  for (const warning of own.flatMap(({ warnings }) => warnings)) terminal.note(warning);
  const made = own.map((key) => signStatement(key, plan.text));
  const document = makeDocument(plan, [...foreign.map(({ signature }) => signature), ...made]);
  if (options.output !== undefined) writeDocument(options.output, document);
  const attachment = chooseAttachment(options);
  const attached =
    attachment === null
      ? null
      : attachStatement(requireLayout(reference), found, document, attachment);
  report(terminal, { plan, keys, options, attached });
}

function report(
  terminal: Terminal,
  result: Pick<Signing, "plan" | "options"> & {
    readonly keys: readonly TrustKey[];
    readonly attached: AttachedStatement | null;
  },
): void {
  const { plan, keys, options, attached } = result;
  const { digest, version, expires } = plan.statement;
  if (options.format === "json") {
    const signedBy = keys.map(({ name, fingerprint }) => ({ name, fingerprint }));
    const output = options.output === undefined ? null : resolve(options.output);
    terminal.line(formatCanonicalJson({ ...plan.statement, signedBy, output, attached }));
    return;
  }
  const until = expires === null ? "" : `, expires ${expires}`;
  terminal.line(`Image ${digest}: version ${version}${until}`);
  for (const key of keys) terminal.line(`Signed by key ${describeKey(key)}`);
  for (const old of plan.replaced) terminal.line(`Replaces the statement of version ${old}`);
  if (attached?.artifactDigest != null) {
    terminal.line(`Attached by artifact ${attached.artifactDigest}`);
  } else if (attached !== null) {
    terminal.line(`Attached; the image's digest is now ${attached.manifestDigest}`);
  }
}

function writeUnsigned(terminal: Terminal, { text }: SignPlan, { output }: SignOptions): void {
  if (output === undefined) terminal.write(text);
  else writeDocument(output, text);
}

function writeDocument(path: string, text: string): void {
  try {
    writeFileAtomic(null, resolve(path), Buffer.from(text), { mode: 0o644 });
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR", "EISDIR", "EROFS", "EACCES")) throw cause;
    const message = `Cannot write the statement "${path}"; name a file in a directory that can be written to`;
    throw new StateError("missing", message, { path }, { cause });
  }
}

/** Null: the statement is only written to a file. */
function chooseAttachment({ attach, output }: SignOptions): Attachment | null {
  return attach ?? (output === undefined ? "annotation" : null);
}

/** UsageError for what does not go together, before anything is fetched. */
function checkOptions(options: SignOptions, reference: ImageReference): void {
  const { attach, key = [], publicKey = [], signature = [], unsigned } = options;
  const complain = (problem: string) => {
    throw new UsageError("conflict", problem);
  };
  if (signature.length !== publicKey.length) {
    complain("Every --signature needs its --public-key, in the same order");
  }
  const signers = key.length + signature.length;
  if (unsigned === true && (signers > 0 || attach !== undefined)) {
    complain("--unsigned goes with neither --key, --signature nor --attach");
  }
  if (unsigned !== true && signers === 0) {
    complain("Who signs? Give --key, or --signature with --public-key, or --unsigned");
  }
  if (unsigned !== true && chooseAttachment(options) !== null) requireLayout(reference);
}

/** Names of keys only: tokens are not asked. */
function describePlan(plan: SignPlan, found: SignableImage, options: SignOptions): object {
  return {
    kind: "sign",
    manifestDigest: found.resolved.manifestDigest,
    statement: plan.statement,
    replaced: plan.replaced,
    signedAlready: plan.signatures.map(({ fingerprint }) => fingerprint),
    keys: [...(options.key ?? []), ...(options.publicKey ?? [])],
    attach: options.unsigned === true ? null : chooseAttachment(options),
    output: options.output === undefined ? null : resolve(options.output),
  };
}
