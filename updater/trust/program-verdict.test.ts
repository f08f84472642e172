// What the firmware is certain to refuse, with certificates that openssl made and lists in the form of its variables.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatSignatureList, HASH_LIST, makeEfiSigner } from "../../test/support/efi-keys.ts";
import type { System } from "../boot/system.ts";
import { readFirmwareKeys } from "./firmware-keys.ts";
import { judgeProgram } from "./program-verdict.ts";

const DATABASE = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
const SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23";
const path = "/boot/EFI/Linux/6.1.efi";

let directory: string;
const certificates: Record<string, Uint8Array> = {};

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "firmware-keys-"));
  const create = (name: string, subject?: string, issuer?: string) => {
    certificates[name] = makeEfiSigner(directory, name, subject, issuer).certificate;
  };
  create("owner");
  create("foreign");
  // The owner's name, but another key.
  create("imitation", "/CN=owner/");
  create("hostile", '/CN=a"\u001b[31m b/');
  create("release", "/CN=release/", "owner");
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

interface Variables {
  readonly db?: Uint8Array;
  readonly dbx?: Uint8Array;
  /** "" for one that does not show its list. */
  readonly shim?: Uint8Array | "";
}

const listOf = (...names: readonly string[]) =>
  Buffer.concat(names.map((name) => formatSignatureList(certificates[name]!)));

function readKeys({ db, dbx, shim }: Variables) {
  const sysfs = mkdtempSync(join(directory, "sys-"));
  const variables = join(sysfs, "firmware/efi/efivars");
  mkdirSync(variables, { recursive: true });
  const put = (name: string, bytes: Uint8Array | undefined) => {
    if (bytes !== undefined) {
      writeFileSync(join(variables, name), Buffer.concat([Buffer.from([39, 0, 0, 0]), bytes]));
    }
  };
  put(`db-${DATABASE}`, db);
  put(`dbx-${DATABASE}`, dbx);
  if (shim === "") put(`SbatLevelRT-${SHIM}`, Buffer.from("sbat,1\n"));
  else put(`MokListRT-${SHIM}`, shim);
  return readFirmwareKeys({ sysfs } as System);
}

/** The kind of the verdict, and its reason. */
function judge(signers: readonly string[] | null, variables: Variables): string {
  const ders = signers?.map((name) => certificates[name]!) ?? null;
  const program = { path, certificates: ders, problem: null };
  const verdict = judgeProgram(program, readKeys(variables));
  return verdict.kind === "fine" ? "fine" : `${verdict.kind}: ${verdict.reason}`;
}

describe("a program that is signed", () => {
  test.each<[string, readonly string[], () => Variables, RegExp]>([
    ["by a key in db", ["owner"], () => ({ db: listOf("foreign", "owner") }), /^fine$/],
    ["by one that a key in db has signed", ["release"], () => ({ db: listOf("owner") }), /^fine$/],
    ["by two, one in db", ["foreign", "owner"], () => ({ db: listOf("owner") }), /^fine$/],
    [
      "by a stranger",
      ["foreign"],
      () => ({ db: listOf("owner") }),
      /^refused: .*"\/boot\/EFI\/Linux\/6\.1\.efi" is signed by "foreign", and by no key in/,
    ],
    [
      "by a stranger with the owner's name",
      ["imitation"],
      () => ({ db: listOf("owner") }),
      /^refused: .*"owner", and by no key/,
    ],
    [
      "by a stranger, and db has hashes as well",
      ["foreign"],
      () => ({ db: Buffer.concat([listOf("owner"), HASH_LIST]) }),
      /^unclear: .*by no key/,
    ],
    [
      "by a stranger, behind shim",
      ["foreign"],
      () => ({ db: listOf("owner"), shim: listOf("owner") }),
      /^unclear: .*by no key/,
    ],
    [
      "by a key of the machine's owner, which shim knows",
      ["foreign"],
      () => ({ db: listOf("owner"), shim: listOf("release", "foreign") }),
      /^fine$/,
    ],
    [
      "by a key in dbx",
      ["owner"],
      () => ({ db: listOf("owner"), dbx: Buffer.concat([HASH_LIST, listOf("owner")]) }),
      /^refused: .*"owner", which is in dbx/,
    ],
    [
      "by one that a key in dbx has signed, behind shim",
      ["release"],
      () => ({ db: listOf("release"), dbx: listOf("owner"), shim: "" }),
      /^refused: .*"release", which is in dbx/,
    ],
    ["where db is not there", ["owner"], () => ({}), /^unclear: .*does not show its list of keys/],
    ["where db is noise", ["owner"], () => ({ db: Buffer.alloc(40, 1) }), /^unclear: .*malformed/],
    [
      "by a name that wants to act on the terminal",
      ["hostile"],
      () => ({ db: listOf("owner") }),
      /^refused: [\x20-\x7e]*by "a[?\w]*\[31m b",/,
    ],
  ])("%s", (_, signers, variables, expected) => {
    expect(judge(signers, variables())).toMatch(expected);
  });
});

describe("a program that is not signed", () => {
  test.each<[string, () => Variables, RegExp]>([
    ["", () => ({ db: listOf("owner") }), /^refused: .* has no Secure Boot signature$/],
    ["where db is not there", () => ({}), /^unclear: .* has no Secure Boot signature$/],
    ["where db has hashes", () => ({ db: HASH_LIST }), /^unclear: .* has no Secure Boot/],
    ["behind shim", () => ({ db: listOf("owner"), shim: listOf("owner") }), /^refused: /],
    ["behind a shim with hashes", () => ({ db: listOf("owner"), shim: HASH_LIST }), /^unclear: /],
    ["behind a silent shim", () => ({ db: listOf("owner"), shim: "" }), /^unclear: /],
  ])("%s", (_, variables, expected) => {
    expect(judge(null, variables())).toMatch(expected);
  });

  test("or whose signature cannot be read", () => {
    const program = { path, certificates: null, problem: "it is noise" };
    expect(judgeProgram(program, readKeys({ db: listOf("owner") }))).toMatchObject({
      kind: "unclear",
      reason: expect.stringContaining("(it is noise)"),
    });
  });
});
