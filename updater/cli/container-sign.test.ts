// `bootc container sign` on image layouts of its own: keys in files, both ways to attach, the two-step flow.

import { generateKeyPairSync, sign } from "node:crypto";
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { parseTrustAnchors } from "../../shared/format/trust/anchors.ts";
import { judgeImage } from "../../shared/format/trust/judgement.ts";
import { parseSignedStatement } from "../../shared/format/trust/statement.ts";
import {
  type BuiltImage,
  writeIndex,
  writeJson,
  writeLayout,
} from "../../test/support/oci-builder.ts";
import { makeOs } from "../../test/support/small-os.ts";
import { writeUnifiedImage } from "../../test/support/unified-image.ts";
import { openSource } from "../image/source.ts";
import { readStatements } from "../image/statement-source.ts";
import { makeSignCommand } from "./container-sign.ts";

const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
const ANNOTATION = "io.bootc-ts.image-statement.v1";
let scratch: string;
let pristine: string;
let built: BuiltImage;
let layout: string;
let count = 0;

const at = (name: string) => join(scratch, name);

function makeKey(name: string): string {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ format: "pem", type: "pkcs8" }) as string;
  writeFileSync(at(`${name}.key`), pem, { mode: 0o600 });
  writeFileSync(at(`${name}.pub`), publicKey.export({ format: "pem", type: "spki" }) as string);
  return at(`${name}.key`);
}

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "sign-"));
  pristine = at("pristine");
  [built] = writeLayout(pristine, [await makeOs()]) as [BuiltImage];
  for (const name of ["old", "new"]) makeKey(name);
});
beforeEach(() => {
  layout = at(`layout-${count++}`);
  cpSync(pristine, layout, { recursive: true });
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Output {
  readonly text: string;
  readonly notes: readonly string[];
}

async function run(...argv: readonly string[]): Promise<Output> {
  let text = "";
  const notes: string[] = [];
  const command = makeSignCommand({
    write: (part) => void (text += part),
    line: (line) => void (text += `${line}\n`),
    note: (line) => void notes.push(line),
    progress: () => {},
    columns: null,
    isInteractive: false,
  });
  command.exitOverride().configureOutput({ writeErr: () => {} });
  await command.parseAsync([...argv], { from: "user" });
  return { text, notes };
}

async function refusal(...argv: readonly string[]): Promise<string> {
  try {
    await run(...argv);
  } catch (error) {
    return `${(error as { kind?: string }).kind}: ${describeError(error)}`;
  }
  throw new Error("it was done");
}

/** What a machine finds. */
async function findDocuments(image: string): Promise<readonly string[]> {
  await using source = openSource({ transport: "oci", image });
  const resolved = await source.resolve();
  const found: string[] = [];
  for await (const { document } of readStatements(source, resolved)) {
    found.push(Buffer.from(document).toString());
  }
  return found;
}

const readIndex = (directory = layout) =>
  JSON.parse(readFileSync(join(directory, "index.json"), "utf8"));
const parse = (text: string) => parseSignedStatement(Buffer.from(text), "x");

function judge(document: string, ...names: readonly string[]) {
  const keys = new Map(
    names.map((name) => [`${name}.pub`, readFileSync(at(`${name}.pub`), "utf8")]),
  );
  const anchors = parseTrustAnchors({ keys, revoked: new Map(), conf: null });
  const { digest, algorithm } = parse(document).statement;
  const question = { id: digest, algorithm, anchors, floor: null, now: new Date() };
  return judgeImage({ ...question, document: Buffer.from(document) });
}

describe("attaching", () => {
  test("an annotation: found, good, and the image is the same but for it", async () => {
    const { text } = await run("--key", at("old.key"), "--version", "42", `oci:${layout}:v1`);
    const [document, ...others] = await findDocuments(`${layout}:v1`);
    expect(others).toEqual([]);
    const { statement } = parse(document!);
    expect(statement).toMatchObject({ version: 42, expires: null, algorithm: "sha512-12" });
    expect(judge(document!, "old").key?.name).toBe("old.pub");
    expect(text).toContain(`Image ${statement.digest}: version 42\nSigned by key `);
    const [entry, ...rest] = readIndex().manifests;
    expect(rest).toEqual([]);
    expect(text).toContain(`the image's digest is now ${entry.digest}`);
    const read = (directory: string, digest: string) =>
      JSON.parse(readFileSync(join(directory, "blobs", digest.replace(":", "/")), "utf8"));
    const { annotations, ...manifest } = read(layout, entry.digest);
    expect(manifest).toEqual(read(pristine, built.manifest.digest));
    expect(annotations).toEqual({ [ANNOTATION]: document });
    expect(entry).toEqual({ ...built.manifest, digest: entry.digest, size: entry.size });
  });

  test("a referrer: the image keeps its digest, and is still the only one", async () => {
    const { text } = await run(
      ...["--key", at("old.key"), "--version", "42", "--attach", "referrer", `oci:${layout}`],
    );
    expect(readIndex().manifests[0]).toEqual(built.manifest);
    const [, entry] = readIndex().manifests;
    expect(text).toContain(`Attached by artifact ${entry.digest}`);
    expect(entry.artifactType).toBe("application/vnd.bootc-ts.image-statement.v1");
    const [document] = await findDocuments(layout);
    expect(judge(document!, "old").statement?.version).toBe(42);
    // Once more, with the next key: one artifact, two signatures.
    const next = ["--key", at("new.key"), "--signed-by", at("old.pub"), "--attach", "referrer"];
    await run(...next, `oci:${layout}`);
    expect(readIndex().manifests).toHaveLength(2);
    const [both] = await findDocuments(layout);
    expect(parse(both!).signatures).toHaveLength(2);
  });

  test("rotation: signed by both, each alone is enough", async () => {
    await run("--key", at("old.key"), "--version", "7", "--expires", "2099-01-31", `oci:${layout}`);
    await run("--key", at("new.key"), "--signed-by", at("old.pub"), `oci:${layout}`);
    const [document] = await findDocuments(layout);
    expect(parse(document!).statement).toMatchObject({
      version: 7,
      expires: "2099-01-31T00:00:00Z",
    });
    expect(judge(document!, "old").key?.name).toBe("old.pub");
    expect(judge(document!, "new").key?.name).toBe("new.pub");
    const atOnce = await run(
      ...["--key", at("old.key"), "--key", at("new.key"), "--version", "8", `oci:${layout}`],
    );
    expect(atOnce.text).toContain("Replaces the statement of version 7");
    expect(parse((await findDocuments(layout))[0]!).signatures).toHaveLength(2);
  });

  test("other tags stay, also of the same manifest, and so do blobs", async () => {
    const annotate = (tag: string) => ({ "org.opencontainers.image.ref.name": tag });
    const entries = ["v1", "stable"].map((tag) => ({
      ...built.manifest,
      annotations: annotate(tag),
    }));
    writeIndex(layout, entries);
    const before = readdirSync(join(layout, "blobs/sha256"));
    await run("--key", at("old.key"), "--version", "1", `oci:${layout}:stable`);
    const [v1, stable] = readIndex().manifests;
    expect(v1).toEqual(entries[0]);
    expect(stable.digest).not.toBe(built.manifest.digest);
    expect(stable.annotations).toEqual(annotate("stable"));
    const after = readdirSync(join(layout, "blobs/sha256"));
    expect(after).toEqual(expect.arrayContaining(before));
    expect(after).toHaveLength(before.length + 1);
    expect(await findDocuments(`${layout}:v1`)).toEqual([]);
    await run("--key", at("old.key"), "--version", "2", `oci:${layout}:@0`);
    expect(readIndex().manifests[1]).toEqual(stable);
    expect(parse((await findDocuments(`${layout}:v1`))[0]!).statement.version).toBe(2);
  });

  test("an image behind an index: the index follows", async () => {
    const { manifest } = built;
    const architecture = process.arch === "x64" ? "amd64" : process.arch;
    const other = { ...manifest, digest: `sha256:${"0".repeat(64)}` };
    const index = writeJson(layout, OCI_INDEX, {
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests: [
        { ...manifest, platform: { os: "linux", architecture } },
        { ...other, platform: { os: "linux", architecture: "s390x" } },
      ],
      annotations: { kept: "yes" },
    });
    writeIndex(layout, [index]);
    await run("--key", at("old.key"), "--version", "1", `oci:${layout}`);
    expect(await findDocuments(layout)).toHaveLength(1);
    const [top] = readIndex().manifests;
    const changed = JSON.parse(
      readFileSync(join(layout, "blobs", top.digest.replace(":", "/")), "utf8"),
    );
    expect(changed.annotations).toEqual({ kept: "yes" });
    expect(changed.manifests[1].digest).toBe(other.digest);
    expect(changed.manifests[0].digest).not.toBe(manifest.digest);
  });

  test("--output leaves the image alone; any transport will do", async () => {
    const file = at("document");
    await run("--key", at("old.key"), "--version", "3", "--output", file, `oci:${layout}`);
    expect(readIndex()).toEqual(readIndex(pristine));
    expect(judge(readFileSync(file, "utf8"), "old").statement?.version).toBe(3);
    expect(statSync(file).mode & 0o777).toBe(0o644);
  });

  test("--dry-run and --format json", async () => {
    const words = ["--key", at("old.key"), "--version", "3", `oci:${layout}:v1`];
    const plan = JSON.parse((await run("--dry-run", ...words)).text);
    expect(plan).toMatchObject({
      kind: "sign",
      manifestDigest: built.manifest.digest,
      statement: { version: 3, expires: null, format: "erofs-v1", algorithm: "sha512-12" },
      attach: "annotation",
      keys: [at("old.key")],
    });
    expect(readIndex()).toEqual(readIndex(pristine));
    const done = JSON.parse((await run("--format", "json", ...words)).text);
    expect(done).toEqual({
      ...plan.statement,
      signedBy: [{ name: "old.key", fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) }],
      output: null,
      attached: { manifestDigest: readIndex().manifests[0].digest, artifactDigest: null },
    });
  });
});

test("a statement that has expired already is made, with a word about it", async () => {
  const words = ["--key", at("old.key"), "--version", "1", `oci:${layout}`];
  expect((await run(...words, "--expires", "2001-01-01")).notes).toEqual([
    expect.stringContaining("expires at 2001-01-01T00:00:00Z, which is over"),
  ]);
});

test("two steps: the statement out, a signature made elsewhere back in", async () => {
  const words = ["--version", "9", "--expires", "2030-01-01T12:00:00Z", `oci:${layout}`];
  const { text } = await run("--unsigned", ...words);
  expect(text).toContain("version: 9\nexpires: 2030-01-01T12:00:00Z\n");
  await run("--unsigned", "--output", at("unsigned"), ...words);
  expect(readFileSync(at("unsigned"), "utf8")).toBe(text);
  expect(readIndex()).toEqual(readIndex(pristine));
  const signature = sign(null, Buffer.from(text), readFileSync(at("new.key")));
  writeFileSync(at("good.sig"), signature);
  writeFileSync(at("short.sig"), signature.subarray(1));
  const back = (file: string, key: string, ...rest: readonly string[]) =>
    ["--signature", at(file), "--public-key", at(key), ...rest] as const;
  const wrong: [readonly string[], string][] = [
    [back("good.sig", "old.pub", ...words), "integrity: "],
    [back("short.sig", "new.pub", ...words), "has 63 bytes"],
    [back("good.sig", "new.pub", "--version", "10", `oci:${layout}`), "exactly the bytes"],
    [back("good.sig", "new.pub", "--version", "9", `oci:${layout}`), "exactly the bytes"],
    [back("good.sig", "new.key", ...words), "private key"],
    [["--signature", at("good.sig"), ...words], "needs its --public-key"],
  ];
  for (const [argv, message] of wrong) expect(await refusal(...argv)).toContain(message);
  expect(readIndex()).toEqual(readIndex(pristine));
  await run(...back("good.sig", "new.pub", ...words));
  const [document] = await findDocuments(layout);
  expect(judge(document!, "new").statement?.version).toBe(9);
});

describe("sealed images", () => {
  test.each([
    ["ID", "erofs-v1"],
    ["ID2", "erofs-v2"],
  ])("composefs=%s", async (id, format) => {
    const place = at(`sealed-${count++}`);
    const sealed = await writeUnifiedImage(place, { version: "1", cmdline: `composefs=${id}` });
    await run("--key", at("old.key"), "--version", "1", `oci:${place}`);
    const [document] = await findDocuments(place);
    const digest = id === "ID" ? sealed.id : sealed.id2;
    expect(parse(document!).statement).toMatchObject({ digest, format });
  });

  test("one whose kernel is for another image is not signed", async () => {
    const place = at(`sealed-${count++}`);
    await writeUnifiedImage(place, { version: "1", cmdline: `composefs=${"ab".repeat(64)}` });
    const text = await refusal("--key", at("old.key"), "--version", "1", `oci:${place}`);
    expect(text).toMatch(/^integrity: The image is not the one that /);
  });
});

describe("refusals, after which nothing has changed", () => {
  const files: [string, () => string, string][] = [
    ["an RSA key", () => pem(generateKeyPairSync("rsa", { modulusLength: 2048 })), "of type rsa"],
    ["an EC key", () => pem(generateKeyPairSync("ec", { namedCurve: "P-256" })), "of type ec"],
    ["an X25519 key", () => pem(generateKeyPairSync("x25519")), "of type x25519"],
    ["a public key", () => readFileSync(at("old.pub"), "utf8"), "is a public key"],
    ["no key", () => "hello", "is no private key in PEM"],
    ["half a key", () => readFileSync(at("old.key"), "utf8").replace("MC4C", "MC4D"), "is damaged"],
    [
      "an encrypted key",
      () => pem(generateKeyPairSync("ed25519"), { cipher: "aes-256-cbc", passphrase: "x" }),
      "is encrypted",
    ],
  ];
  test.each(files)("%s", async (_, make, message) => {
    writeFileSync(at("bad.key"), make(), { mode: 0o600 });
    const text = await refusal("--key", at("bad.key"), "--version", "1", `oci:${layout}`);
    expect(text).toMatch(/^format: The key "/);
    expect(text).toContain(message);
    expect(text).not.toContain("MC4");
    expect(readIndex()).toEqual(readIndex(pristine));
  });

  test("a key that is missing", async () => {
    const text = await refusal("--key", at("none"), "--version", "1", `oci:${layout}`);
    expect(text).toMatch(/^state: Cannot read the private key ".*none"/);
  });

  test.each<[readonly string[], string]>([
    [[], "Who signs?"],
    [["--key", "KEY"], "Give --version"],
    [["--unsigned", "--key", "x"], "--unsigned goes with neither"],
    [["--unsigned", "--attach", "referrer"], "--unsigned goes with neither"],
    [["--public-key", "x"], "needs its --public-key"],
    [["--key", "pkcs11:object=x?pin-value=1", "--version", "1"], "everybody who lists processes"],
    [["--key", "pkcs11:token=x", "--version", "1"], "needs object= or id="],
    [["--key", "pkcs11:object=x;type=public", "--version", "1"], "no private key"],
    [["--key", "pkcs11:object", "--version", "1"], "which is no attribute"],
    [["--key", "pkcs11:object=x?module-path=lib.so", "--version", "1"], "no absolute path"],
    [["--key", "pkcs11:object=x?module-path=/a%0Ab", "--version", "1"], "no absolute path"],
    [["--key", "pkcs11:object=x?module-path=/a%", "--version", "1"], "no absolute path"],
  ])("usage: %j", async (argv, message) => {
    const words = argv.map((word) => (word === "KEY" ? at("old.key") : word));
    const text = await refusal(...words, `oci:${layout}`);
    expect(text).toMatch(/^usage: /);
    expect(text).toContain(message);
    expect(readIndex()).toEqual(readIndex(pristine));
  });

  test.each([
    ["--version", "0"],
    ["--version", "1.5"],
    ["--version", "9007199254740992"],
    ["--version", "x"],
    ["--expires", "tomorrow"],
    ["--expires", "2027-02-30"],
    ["--expires", "2027-01-01T00:00:00"],
    ["--expires", "2027-01-01T00:00:00+02:00"],
    ["--attach", "label"],
  ])("%s %s", async (name, value) => {
    await expect(run(name, value, "--key", at("old.key"), `oci:${layout}`)).rejects.toMatchObject({
      code: "commander.invalidArgument",
    });
  });

  test("attaching to anything but a directory", async () => {
    const words = ["--key", at("old.key"), "--version", "1", "docker://localhost/x"];
    expect(await refusal(...words)).toContain('not to "registry"');
  });

  test("the same key twice, and a version below the one that is there", async () => {
    const sign42 = ["--key", at("old.key"), "--version", "42", `oci:${layout}`];
    await run(...sign42);
    expect(await refusal(...sign42)).toMatch(/^state: .* already; --force signs again$/);
    const lower = ["--key", at("new.key"), "--version", "41", `oci:${layout}`];
    expect(await refusal(...lower)).toContain("has a statement of version 42, which is above 41");
    const twice = ["--key", at("new.key"), "--key", at("new.key"), ...sign42.slice(2)];
    expect(await refusal(...twice)).toContain("is given twice");
    await run("--force", ...sign42);
    expect(parse((await findDocuments(layout))[0]!).signatures).toHaveLength(1);
    await run("--force", ...lower);
    expect(parse((await findDocuments(layout))[0]!).statement.version).toBe(41);
  });
});

test("a version is taken over only from who is named", async () => {
  await run("--key", at("old.key"), "--version", "42", `oci:${layout}`);
  const next = ["--key", at("new.key"), `oci:${layout}`];
  expect(await refusal(...next)).toContain("Give --version");
  const byOther = await refusal("--signed-by", at("new.pub"), ...next);
  expect(byOther).toMatch(
    /^state: The image has no statement signed by key [0-9a-f]{16} \("new.pub"\)/,
  );
  // Somebody who has no key raises the version.
  const [document] = await findDocuments(layout);
  const raised = document!.replace("version: 42", "version: 9007199254740991");
  const [entry] = readIndex().manifests;
  const manifest = readFileSync(join(layout, "blobs", entry.digest.replace(":", "/")), "utf8");
  const changed = { ...JSON.parse(manifest), annotations: { [ANNOTATION]: raised } };
  writeIndex(layout, [writeJson(layout, entry.mediaType, changed)]);
  expect(await refusal("--signed-by", at("old.pub"), ...next)).toContain("no statement signed by");
});

test("a key that others may read is used, with a warning", async () => {
  writeFileSync(at("open.key"), readFileSync(at("new.key")), { mode: 0o644 });
  const { notes } = await run("--key", at("open.key"), "--version", "1", `oci:${layout}`);
  expect(notes).toEqual([expect.stringContaining("Others than its owner may read the key")]);
  expect((await run("--key", at("old.key"), "--version", "1", `oci:${layout}`)).notes).toEqual([]);
});

test("which of two keys in one file signs is not guessed", async () => {
  const [one, two] = ["old.key", "new.key"].map((name) => readFileSync(at(name), "utf8"));
  writeFileSync(at("both.key"), `${one}${two}`, { mode: 0o600 });
  expect(await refusal("--key", at("both.key"), "--version", "1", `oci:${layout}`)).toMatch(
    /both.key" has several private keys in it/,
  );
});

test("a place that no file can be written to is named, and nothing is attached", async () => {
  for (const place of [scratch, at("no/x")]) {
    const words = ["--key", at("old.key"), "--version", "1", "--attach", "annotation"];
    expect(await refusal(...words, "--output", place, `oci:${layout}`)).toContain(
      `Cannot write the statement "${place}"; name a file in a directory`,
    );
    expect(await findDocuments(layout)).toEqual([]);
  }
});

test("statements that nobody can read, or of other images, do not count", async () => {
  await run("--key", at("old.key"), "--version", "42", `oci:${layout}`);
  const [document] = await findDocuments(layout);
  const foreign = document!.replace(/digest: ../, "digest: 00");
  for (const [text, version] of [
    [foreign, 1],
    ["x", 2],
  ] as const) {
    const other = at(`layout-${count++}`);
    writeLayout(other, []);
    cpSync(pristine, other, { recursive: true });
    const manifest = JSON.parse(
      readFileSync(join(other, "blobs", built.manifest.digest.replace(":", "/")), "utf8"),
    );
    const changed = { ...manifest, annotations: { [ANNOTATION]: text } };
    writeIndex(other, [writeJson(other, built.manifest.mediaType, changed)]);
    await run("--key", at("new.key"), "--version", String(version), `oci:${other}`);
    expect(parse((await findDocuments(other))[0]!).statement.version).toBe(version);
  }
});

function pem(
  { privateKey }: { readonly privateKey: import("node:crypto").KeyObject },
  options: object = {},
): string {
  return privateKey.export({ format: "pem", type: "pkcs8", ...options }) as string;
}
