// `mkcomposefs [OPTIONS] SOURCE IMAGE`: an EROFS image from a directory or from a dump file, byte for
// byte what the C tool writes.

import { StateError, UsageError } from "../../shared/error.ts";
import type { ErofsFormat } from "../../shared/format/erofs/format.ts";
import {
  type PlannedImage,
  planErofs,
  planErofsFromDump,
} from "../../shared/format/erofs/writer.ts";
import { VerityHasher } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { openat, read } from "../../shared/sys/file.ts";
import {
  type DigestStore,
  openDigestStore,
  storeFile,
  syncDigestStore,
} from "../composefs/digest-store.ts";
import { planDirectory, type ScanOptions } from "../composefs/directory-scan.ts";
import { defaultThreads } from "../composefs/hash-pool.ts";
import { type ImageSource, writeImageFile } from "../composefs/image-file.ts";
import { scanTree } from "../composefs/tree-scan.ts";
import { parseWords } from "./getopt.ts";
import { STDOUT, writeOut, writeWholeOut } from "./standard-stream.ts";

export const MKCOMPOSEFS_USAGE = `Usage: mkcomposefs [OPTIONS] SOURCE IMAGE
SOURCE is a directory, or with --from-file a dump ("-": standard input); IMAGE "-" is standard output.
  --digest-store=PATH   copy the content of files over 64 bytes into this directory
  --print-digest        print the image's fs-verity digest
  --print-digest-only   print the digest and write no image
  --from-file           SOURCE is a dump file
  --min-version=N       lowest format version, 0 (default) or 1
  --max-version=N       highest format version, 0 or 1 (default, unless --min-version is given)
  --use-epoch           set all times to zero
  --skip-devices        leave out device nodes
  --skip-xattrs         leave out extended attributes
  --user-xattrs         leave out extended attributes but user.*
  --hardlinks           keep hard links; without it every name is a file of its own
  --threads=N           this many threads hash and copy files (default: one for each processor)
`;

const OPTIONS = {
  "digest-store": "value",
  "use-epoch": "flag",
  "skip-devices": "flag",
  "skip-xattrs": "flag",
  "user-xattrs": "flag",
  "print-digest": "flag",
  "print-digest-only": "flag",
  "from-file": "flag",
  hardlinks: "flag",
  "min-version": "value",
  "max-version": "value",
  threads: "value",
} as const;

const PIECE_BYTES = 1 << 18;
const STDIN = 0;

interface Request {
  readonly source: string;
  /** Null with --print-digest-only. */
  readonly image: string | null;
  readonly fromFile: boolean;
  readonly printDigest: boolean;
  readonly format: ErofsFormat;
  readonly store: string | null;
  readonly hardlinks: boolean;
  readonly scan: Omit<ScanOptions, "store">;
}

export function runMkcomposefs(argv: readonly string[]): number {
  const request = parseRequest(argv);
  // Loaded when needed: the module costs as much time as all of ours.
  if (request.image === "-" && process.getBuiltinModule("node:tty").isatty(STDOUT)) {
    throw new StateError("conflict", "An image is not for a terminal; send it to a file or a pipe");
  }
  const planned = request.fromFile ? planFromDump(request) : planFromDirectory(request);
  let digest = "";
  const image: ImageSource = (put) => {
    if (request.printDigest) digest = writeHashed(planned, put);
    else planned.write(put);
  };
  if (request.image === "-") image(writeWholeOut);
  else if (request.image !== null) writeImageFile(request.image, image);
  else image(() => {});
  if (request.printDigest) writeOut(`${digest}\n`);
  return 0;
}

/** Writes the image; returns its fs-verity digest. */
function writeHashed(planned: PlannedImage, put: (piece: Uint8Array) => void): string {
  const hasher = new VerityHasher("sha256");
  planned.write((piece) => {
    hasher.update(piece);
    put(piece);
  });
  return hasher.digestHex();
}

function parseRequest(argv: readonly string[]): Request {
  const { options, operands } = parseWords(argv, OPTIONS);
  const given = new Map(options);
  const digestOnly = given.has("print-digest-only");
  const [source, image, ...rest] = operands;
  if (source === undefined) throw new UsageError("missing", "No source path specified");
  if (rest.length > 0) throw new UsageError("bad-value", "Too many arguments");
  if (digestOnly && image !== undefined) {
    throw new UsageError("conflict", "With --print-digest-only no image is written: leave it out");
  }
  if (!digestOnly && image === undefined) {
    throw new UsageError("missing", "No destination path specified");
  }
  if (source === "") throw new UsageError("bad-value", "The source path is empty");
  const fromFile = given.has("from-file");
  if (!fromFile && given.has("skip-xattrs") && given.has("user-xattrs")) {
    throw new UsageError("conflict", "--skip-xattrs and --user-xattrs exclude each other");
  }
  const threads = given.get("threads");
  if (threads !== undefined && parseNumber("threads", threads) < 1) {
    throw new UsageError("bad-value", "--threads needs at least 1");
  }
  return {
    source,
    image: image ?? null,
    fromFile,
    printDigest: digestOnly || given.has("print-digest"),
    format: parseVersions(given),
    store: given.get("digest-store") ?? null,
    hardlinks: given.has("hardlinks"),
    scan: {
      xattrs: given.has("skip-xattrs") ? "none" : given.has("user-xattrs") ? "user" : "all",
      skipDevices: given.has("skip-devices"),
      useEpoch: given.has("use-epoch"),
      threads: threads === undefined ? defaultThreads() : Number(threads),
    },
  };
}

/**
 * The highest version is raised to the lowest; a range of two lets whiteouts decide. As soon as one of
 * the two is given, the other is 0.
 */
function parseVersions(given: ReadonlyMap<string, string>): ErofsFormat {
  const isGiven = given.has("min-version") || given.has("max-version");
  const min = parseNumber("min-version", given.get("min-version") ?? "0");
  const max = parseNumber("max-version", given.get("max-version") ?? (isGiven ? "0" : "1"));
  if (![0, 1].includes(min) || ![0, 1].includes(max)) {
    throw new UsageError("bad-value", `Format versions are 0 and 1, not ${min} to ${max}`);
  }
  return { version: min === 0 ? 0 : 1, dialect: "c", raisedByWhiteouts: max > min };
}

function parseNumber(name: string, text: string): number {
  if (!/^\s*[+-]?\d{1,9}$/.test(text)) {
    throw new UsageError("bad-value", `--${name} needs a number, not "${text}"`);
  }
  return Number(text);
}

function planFromDirectory(request: Request): PlannedImage {
  if (request.store === null) return planScan(request, null);
  using store = openDigestStore(request.store);
  const planned = planScan(request, store);
  // No image may name objects that a power cut can still take away.
  syncDigestStore(store);
  return planned;
}

function planScan({ source, scan, format, hardlinks }: Request, store: DigestStore | null) {
  if (!hardlinks) return planDirectory(source, { ...scan, store }, format);
  const root = scanTree(source, {
    ...scan,
    algorithm: "sha256",
    onContent: (file, digest, sizeBytes) => {
      if (store !== null) storeFile(store, file, digest, sizeBytes);
    },
  });
  return planErofs(root, format);
}

/** What a dump says is taken as it is: the options about scanning do not matter. */
function planFromDump({ source, format }: Request): PlannedImage {
  const fd = source === "-" ? new Fd(STDIN) : openat(null, source, O.RDONLY);
  const strict = process.env["CFS_PARSE_STRICT"] !== undefined;
  try {
    return planErofsFromDump(readPieces(fd), { dialect: "c", strict }, format);
  } catch (cause) {
    throw new StateError("command-failed", `Cannot build from "${source}"`, {}, { cause });
  } finally {
    if (source === "-") fd.release();
    else fd.close();
  }
}

function* readPieces(fd: Fd): Generator<Uint8Array> {
  const buffer = new Uint8Array(PIECE_BYTES);
  for (;;) {
    const count = read(fd, buffer);
    if (count === 0) return;
    yield buffer.subarray(0, count);
  }
}
