// `bootc internals cfs` as a program on this machine's kernel: mounting what is in a repository, and the
// verbs that write to standard output.

import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runInMountNamespace, type Step } from "../support/mount-namespace.ts";
import { type BuiltImage, writeLayout } from "../support/oci-builder.ts";
import { makeOs } from "../support/small-os.ts";

const MAIN = resolve(import.meta.dirname, "../../main.ts");
const scratch = mkdtempSync(join(tmpdir(), "cfs-program-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const LARGE = "large content\n".repeat(500);

/** Algorithm, version, --bootable: what cfsctl 0.9.4 says of the directory that SCRIPT makes. */
const IDS = [
  ["sha256", "0", false, "f69e26149dc651b5757517bea0e01b8be2cd04d4df698d8b884ed10c9ce09c26"],
  ["sha256", "0", true, "ae79ab005a024e3b0d1750815df40781eb2cf2cc1c7a558cfe89f4c629669265"],
  ["sha256", "1", false, "c264bd59dfc58500f64ade6c481b677a6422df8a13655be06984996f9f2e3ed0"],
  ["sha256", "1", true, "95926745390a0e3b91a4081cc292a6ea05f0540dcd452c8cea2e9345bcbf1640"],
  ["sha256", "2", false, "4af63d5a8c5669bdde3def5ac32d0ae10db5f80a6df25f396fa05ff85b68d0dc"],
  ["sha256", "2", true, "71cec4630aaf34851b02b40ad601207d19db3cd6e27960503debafb612afe5e5"],
  [
    ...(["sha512", "1", true] as const),
    "4926d961e499b45db2898c88e1dd9b1607398bdce6aba0651aad410b6af33beb548dd5ad4acd1d94919f3603879b05fe8230f545aa231e8e7b4e08a7f69508d9",
  ],
  [
    ...(["sha512", "2", false] as const),
    "8419fbcc5e28b720b32f891f1176534ebc49172ddf604f429b63c411a7112698b5f0af48e744e34aa5db92c11127843487346453d526a7d6193aa10c4969d99c",
  ],
] as const;
/** The same of its `mkcomposefs --hardlinks`. */
const HARD_LINKED = "920255affca6143e690b3a3b6630565476fa912144a677fc11ba391a61e22c6b";

const idArguments = ([algorithm, version, bootable]: (typeof IDS)[number]) =>
  `--hash ${algorithm} --erofs-version ${version} compute-id${bootable ? " --bootable" : ""}`;

const SCRIPT = `
cd "$SCRATCH"
cfsctl() { "$BUN" "$MAIN" internals cfsctl "$@"; }
mounted() { grep -o " $SCRATCH/mnt r[ow].* - overlay .*" /proc/self/mountinfo; }

cfsctl --repo files init --insecure --algorithm fsverity-sha256-12
cfsctl mkcomposefs --digest-store=files/objects tree image
step import sh -c '"$BUN" "$MAIN" internals cfsctl --repo files import-image group/name <image'
step mount cfsctl --repo files mount group/name mnt
step table mounted
step read cmp mnt/large tree/large
step write touch mnt/new
umount mnt
step upper cfsctl --repo files mount refs/group/name mnt --upperdir upper --workdir work
step upper-write touch mnt/new
umount mnt
step writable cfsctl --repo files mount group/name mnt --upperdir upper --workdir work --read-write
step writable-write sh -c 'echo more >>mnt/large && tail -n 1 mnt/large'
umount mnt
step dump-files cfsctl --repo files dump-files group/name /sub /small
step no-image cfsctl --repo files mount nothing mnt
step no-directory cfsctl --repo files mount group/name nothing
echo damaged >image
step bad-import sh -c '"$BUN" "$MAIN" internals cfsctl --repo files import-image bad <image'

cfsctl --repo images init --insecure
step pull cfsctl --repo images oci pull "oci:$SCRATCH/layout:v1" debian/x
step oci-mount cfsctl --repo images oci mount debian/x mnt
step oci-read sh -c 'cat mnt/usr/bin/soft | wc -c; ls mnt/boot'
umount mnt
step no-boot cfsctl --repo images oci mount debian/x mnt --bootable
step pull-bootable cfsctl --repo images oci pull "oci:$SCRATCH/layout:v1" debian/x --bootable
step boot-mount cfsctl --repo images oci mount "$MANIFEST" mnt --bootable
step boot-read sh -c 'ls mnt/boot; cat mnt/usr/lib/os-release'
umount mnt
step dump cfsctl --repo images oci dump debian/x
cfsctl --repo images oci layer "$LAYER" >layer.tar
cfsctl --repo images cat "oci-layer-$LAYER" >cat.tar
step entries cfsctl --repo images oci layer "$LAYER" --dumpfile
step facts cfsctl --repo images oci layer "$LAYER" --json
step manifest cfsctl --repo images oci inspect debian/x --manifest
step config cfsctl --repo images oci inspect debian/x --config
cfsctl --repo layers init --insecure
step import-layer sh -c '"$BUN" "$MAIN" internals cfsctl --repo layers oci import-layer "$LAYER" <layer.tar'
step other-layer sh -c '"$BUN" "$MAIN" internals cfsctl --repo layers oci import-layer "$LAYER" </dev/null'
step layers cfsctl --repo layers oci layer "$LAYER" --json
umask 022
mkdir -p root/usr/bin root/usr/lib root/etc root/boot root/sysroot root/run
head -c 3000 /dev/zero >root/usr/bin/hello
ln root/usr/bin/hello root/usr/bin/hello2
ln -s hello root/usr/bin/soft
printf 'hi\\n' >root/usr/lib/readme
printf stray >root/run/stray
printf stray >root/boot/stray
mkfifo root/usr/fifo
mknod root/usr/null c 1 3
chmod 4711 root/usr/bin/hello
chown 1000:70000 root/usr/lib/readme
find root -exec touch -h -d @1700000000.123456789 {} +
${IDS.map((id, i) => `step id-${i} cfsctl --no-repo ${idArguments(id)} root`).join("\n")}
step hard-linked cfsctl mkcomposefs --hardlinks --print-digest-only root
step karg cfsctl --no-repo --insecure compute-karg root
step create cfsctl --repo images create-image --bootable root made
step created cfsctl --repo images dump-files made /usr/bin
step create-mount cfsctl --repo images mount made mnt
step create-read cmp mnt/usr/bin/hello2 root/usr/bin/hello
umount mnt
step dumpfile cfsctl --no-repo create-dumpfile root
step no-usr cfsctl --no-repo compute-id tree
step left-over sh -c 'grep -c "$SCRATCH" /proc/self/mountinfo; ls "$SCRATCH/tmp"'
`;

describe("cfs", () => {
  let steps: ReadonlyMap<string, Step>;
  let built: BuiltImage;
  let layer: string;
  const output = (name: string) => steps.get(name)?.output;
  const sha256 = (name: string) =>
    `sha256:${createHash("sha256")
      .update(readFileSync(join(scratch, name)))
      .digest("hex")}`;

  beforeAll(async () => {
    for (const name of ["tree/sub", "mnt", "upper", "work", "tmp"]) {
      mkdirSync(join(scratch, name), { recursive: true });
    }
    writeFileSync(join(scratch, "tree/large"), LARGE);
    writeFileSync(join(scratch, "tree/small"), "small\n");
    writeFileSync(join(scratch, "tree/sub/file"), "");
    [built] = writeLayout(join(scratch, "layout"), [await makeOs()]) as [BuiltImage];
    const blob = (digest: string) => join(scratch, "layout/blobs", digest.replace(":", "/"));
    layer = JSON.parse(readFileSync(blob(built.config.digest), "utf8")).rootfs.diff_ids[0];
    steps = runInMountNamespace(SCRIPT, {
      BUN: process.execPath,
      MAIN,
      SCRATCH: scratch,
      TMPDIR: `${scratch}/tmp`,
      LAYER: layer,
      MANIFEST: built.manifest.digest,
    });
  });

  test("imports an image and mounts it by its reference, read-only", () => {
    expect(output("import")).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(steps.get("mount")).toEqual({ output: "", code: 0 });
    expect(output("table")).toMatch(/ ro,\S* - overlay composefs:group\/name ro,/);
    expect(output("table")).toContain(`datadir+=${scratch}/files/objects`);
    expect(steps.get("read")?.code).toBe(0);
    expect(output("write")).toContain("Read-only file system");
  });

  test("an upper directory is written to only when told so", () => {
    expect(steps.get("upper")?.code).toBe(0);
    expect(output("upper-write")).toContain("Read-only file system");
    expect(steps.get("writable-write")).toEqual({ output: "more", code: 0 });
    expect(readFileSync(join(scratch, "upper/large"), "utf8")).toBe(`${LARGE}more\n`);
  });

  test("shows files of an image as a dump", () => {
    const shown = output("dump-files")!.split("\n");
    expect(shown.map((line) => line.split(" ").slice(0, 3).join(" "))).toEqual([
      "/sub 0 40755",
      "/sub/file 0 100644",
      "/small 6 100644",
    ]);
  });

  test("pulls an image and mounts what was made of it", () => {
    expect(output("pull")).toMatch(/^manifest .*\nconfig .*\nverity .*\ntagged {3}debian\/x$/);
    expect(steps.get("oci-mount")).toEqual({ output: "", code: 0 });
    expect(output("oci-read")).toBe("5000\nstray");
    expect(output("pull-bootable")).toMatch(/\nBoot image: [0-9a-f]{128}$/);
    expect(steps.get("boot-mount")).toEqual({ output: "", code: 0 });
    expect(output("boot-read")).toBe('ID=debian\nPRETTY_NAME="Debian 13"');
  });

  test("gives back what was published, byte for byte", () => {
    expect(sha256("layer.tar")).toBe(layer);
    expect(sha256("cat.tar")).toBe(layer);
    expect(JSON.parse(output("manifest")!).config.digest).toBe(built.config.digest);
    expect(JSON.parse(output("config")!).rootfs.diff_ids[0]).toBe(layer);
  });

  test("shows an image and a layer as dumps", () => {
    expect(output("dump")).toContain("\n/usr/bin/tool2 0 @120000 - - - - 0.0 /usr/bin/tool - -\n");
    expect(output("dump")).not.toContain("/run/stray");
    expect(output("entries")).toContain("/usr/bin 0 40755 1 0 0 0 1700000000.0 - - -\n");
    expect(output("entries")).toContain(
      "\n/usr/bin/tool2 0 @120000 - - - - 0.0 /usr/bin/tool - -\n",
    );
    expect(output("entries")).toContain("\n/run/stray 9 100644 1 ");
  });

  test("imports a layer that is the tar it should be", () => {
    expect(output("import-layer")).toMatch(/^sha512:[0-9a-f]{128}$/);
    expect(steps.get("other-layer")?.code).toBe(1);
    expect(output("other-layer")).toContain("unpacks to a tar with digest");
    const facts = JSON.parse(output("facts")!);
    expect(facts).toMatchObject({ diffId: layer, size: 19456, entryCount: 20 });
    expect(facts.splitstream).toEqual({
      externalObjects: 1,
      externalSize: 5000,
      inlineSize: 14456,
    });
    expect(JSON.parse(output("layers")!)).toEqual(facts);
  });

  test.each(IDS.map((id, i) => [idArguments(id), i, id[3]] as const))(
    "%s as cfsctl",
    (_, i, id) => {
      expect(steps.get(`id-${i}`)).toEqual({ output: id, code: 0 });
    },
  );

  test("keeps hard links as cfsctl's mkcomposefs", () => {
    expect(steps.get("hard-linked")).toEqual({ output: HARD_LINKED, code: 0 });
  });

  test("stores a directory", () => {
    const bootable = IDS.find((id) => id[0] === "sha512" && id[1] === "1" && id[2])!;
    expect(output("karg")).toBe(`composefs.digest=?v1-sha512-12:${bootable[3]}`);
    expect(output("create")).toBe(`sha512:${bootable[3]}`);
    expect(output("created")).toMatch(/^\/usr\/bin\/hello 3000 104711 2 .*\n.*hello2 0 @120000 /m);
    expect(steps.get("create-mount")).toEqual({ output: "", code: 0 });
    expect(steps.get("create-read")?.code).toBe(0);
    const shown = output("dumpfile")!.split("\n");
    expect(shown[0]).toBe("/ 0 40755 7 0 0 0 1700000000.123456789 - - -");
    expect(shown).toContain(
      "/usr/lib/readme 3 100644 1 1000 70000 0 1700000000.123456789 - hi\\n -",
    );
    expect(output("dumpfile")).not.toContain("/run/stray");
  });

  test.each([
    ["no-usr", 'error: Image has no directory "/usr"'],
    ["no-image", 'error: "files" has no image "nothing"'],
    ["no-directory", 'error: Cannot mount image "group/name": move_mount "nothing": No such file'],
    ["bad-import", "error: "],
    ["no-boot", 'error: No such EROFS image of "debian/x" was made; use "oci pull --bootable"'],
  ])("refuses: %s", (name, message) => {
    expect(output(name)).toContain(message);
    expect(steps.get(name)?.code).toBe(1);
  });

  test("leaves nothing behind", () => {
    expect(output("left-over")).toBe("0");
  });
});
