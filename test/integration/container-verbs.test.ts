// The verbs of `bootc container` that work on an unpacked image: what they compute is what a machine computes for the
// image it was unpacked from.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makePrograms } from "../support/doc-commands.ts";
import { type TestImage, writeLayout } from "../support/oci-builder.ts";
import { run } from "../support/run.ts";
import { makeSealable } from "../support/sealable-image.ts";
import { dir, file, makeTar } from "../support/small-os.ts";
import { ROOT } from "../support/source-tree.ts";
import { writeStorage } from "../support/storage-builder.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: unpacking an image takes root)";
/** Larger than what lies in the image itself. */
const CONTEXTS = `${"# targeted\n".repeat(20)}/.* system_u:object_r:default_t:s0\n/usr(/.*)? system_u:object_r:usr_t:s0\n`;

describe.skipIf(notRoot !== "")(`container verbs${notRoot}`, () => {
  const scratch = mkdtempSync(join(tmpdir(), "container-verbs-"));
  const at = (name: string) => join(scratch, name);
  let programs: string;
  let image: TestImage;
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  async function call(...words: readonly string[]): Promise<string> {
    const env = { PATH: `${programs}:${process.env["PATH"]}`, TMPDIR: scratch };
    const bun = join(ROOT, "node_modules/.bin/bun");
    return await run([bun, join(ROOT, "main.ts"), ...words], { env, cwd: scratch });
  }
  const container = (...words: readonly string[]) => call("container", ...words);

  /** A new root with all layers unpacked by tar. */
  async function unpack(name: string): Promise<string> {
    const root = at(name);
    mkdirSync(root);
    // The first once more: the second has changed the times of directories that only the first has.
    for (const { tar } of [...image.layers, image.layers[0]!]) {
      writeFileSync(at("layer.tar"), tar);
      const attributes = ["--xattrs-include=security.capability", "--delay-directory-restore"];
      await run(["tar", ...attributes, "-xf", at("layer.tar"), "-C", root]);
    }
    return root;
  }

  beforeAll(async () => {
    programs = await makePrograms(at("programs"), { tools: { ukify: [] }, image: {} });
    const selinux = "etc/selinux/targeted/contexts/files";
    image = await makeSealable({
      tag: "v1",
      entries: [
        ...["etc/selinux", "etc/selinux/targeted", "etc/selinux/targeted/contexts", selinux].map(
          dir,
        ),
        file("etc/selinux/config", "SELINUXTYPE=targeted\n"),
        file(`${selinux}/file_contexts`, CONTEXTS),
        [{ name: "usr/bin/link", type: "link", linkname: "usr/bin/bootc", mtime: new Date(0) }],
      ],
    });
    writeLayout(at("layout"), [image]);
    await call("internals", "cfs", "--repo", at("repo"), "init", "--insecure");
  });

  test("the digest and the dump are those of the image when it is pulled", async () => {
    const root = await unpack("digest");
    const digest = await container(
      "compute-composefs-digest",
      "--write-dumpfile-to",
      at("dump"),
      root,
    );
    const repo = ["internals", "cfs", "--repo", at("repo"), "oci"];
    const pulled = await call(...repo, "pull", "--bootable", `oci:${at("layout")}`, "v1");
    expect(pulled).toContain(`Boot image: ${digest}`);
    const dump = readFileSync(at("dump"), "utf8");
    expect(dump).toBe(await call(...repo, "dump", "--bootable", "v1"));
    expect(dump).toContain("security.selinux=system_u:object_r:usr_t:s0");
    expect(dump).toContain("security.capability=");
    expect(dump).not.toContain("/boot/stray");
    const name = "example.com/os:v1";
    writeStorage(
      at("storage"),
      name,
      image.layers.map(({ tar }) => tar),
    );
    const words = ["--write-dumpfile-to", at("storage.dump"), `[${at("storage")}]${name}`];
    expect(await container("compute-composefs-digest-from-storage", ...words)).toBe(digest);
    expect(readFileSync(at("storage.dump"), "utf8")).toBe(dump);
  });

  test.each([[["compute-composefs-digest", "/"]], [["ukify"]]])(
    "%j: the running root is refused",
    async (words) => {
      await expect(container(...words)).rejects.toThrow(
        /exit code 2\n.*The running root cannot be measured/s,
      );
    },
  );

  test.each([["inspect"], ["ukify"], ["split-kernel-and-rootfs", "--output", "x"]])(
    "%s: a root that is not there is an error, and nothing else",
    async (verb, ...words) => {
      const call = container(verb, "--rootfs", at("nosuch"), ...words);
      await expect(call).rejects.toThrow(/exit code 1\n *error: There is no directory ".*nosuch"/s);
    },
  );

  test("the digest does not depend on how the layers were made", async () => {
    const root = await unpack("layers");
    const digest = (await container("compute-composefs-digest", root)).trim();
    const repack = async (...options: readonly string[]) => {
      await run(["tar", ...options, "-cf", at("whole.tar"), "-C", root, "."]);
      return readFileSync(at("whole.tar"));
    };
    const pax = ["--format=pax", "--xattrs", "--xattrs-include=*"];
    const gone = [
      ...(await makeTar([
        dir("usr"),
        dir("usr/lib"),
        file("usr/lib/gone", "x"),
        dir("opt"),
        file("opt/gone"),
      ])),
    ];
    const back = await repack(...pax, "--sort=name");
    // A name that comes and goes again, and every directory written twice, with a time of its own in between.
    const mess = await makeTar(
      [
        ["usr", "usr/lib", "boot"].map(
          (name) => [{ ...dir(name)[0], mtime: new Date(1) }] as const,
        ),
        [file("usr/lib/.wh.gone", ""), file(".wh.opt", ""), file("boot/.wh..wh..opq", "")],
      ].flat(),
    );
    const variants: Record<string, TestImage["layers"]> = {
      squashed: [{ tar: back }],
      unsorted: [{ tar: await repack(...pax), compression: "zstd" }],
      twice: [{ tar: back, compression: "none" }, { tar: back }],
      messy: [{ tar: Buffer.from(gone) }, { tar: back }, { tar: mess }, { tar: back }],
    };
    for (const [name, layers] of Object.entries(variants)) {
      writeLayout(at(`layers-${name}`), [{ tag: name, layers }]);
      const repo = ["internals", "cfs", "--repo", at("repo"), "oci"];
      const words = ["pull", "--bootable", `oci:${at(`layers-${name}`)}`, name];
      expect(await call(...repo, ...words), name).toContain(`Boot image: ${digest}`);
    }
  });

  test("inspect shows kernel and arguments", async () => {
    const root = await unpack("inspect");
    const inspect = (...words: readonly string[]) =>
      container("inspect", "--rootfs", root, ...words);
    expect(await inspect()).toBe(
      " Kernel: 6.12\n   Type: vmlinuz\n  Kargs: console=ttyS0 quiet\n".replaceAll(/^ /gm, ""),
    );
    const found = {
      kargs: ["console=ttyS0", "quiet"],
      kernel: { version: "6.12", unified: false },
    };
    expect(await inspect("--json")).toBe(`${JSON.stringify(found, null, 2)}\n`);
    expect(await inspect("--format", "json")).toBe(await inspect("--json"));
    expect(await inspect("--format", "yaml")).toBe(
      'kargs:\n- "console=ttyS0"\n- quiet\nkernel:\n  version: "6.12"\n  unified: false\n',
    );
    rmSync(join(root, "usr"), { recursive: true });
    expect(await inspect()).toBe("Kernel: <none>\n Kargs: <none>\n");
    mkdirSync(join(root, "boot/EFI/Linux"), { recursive: true });
    writeFileSync(join(root, "boot/EFI/Linux/a.efi"), "");
    writeFileSync(join(root, "boot/EFI/Linux/a.addon.efi"), "");
    const unified = { kargs: [], kernel: { version: "a", unified: true } };
    expect(JSON.parse(await inspect("--json"))).toEqual(unified);
    const split = container("split-kernel-and-rootfs", "--rootfs", root, "--output", at("x"));
    await expect(split).rejects.toThrow("has a unified kernel already");
  });

  test("the way by hand comes to the digest that sealing has", async () => {
    const root = await unpack("split");
    const split = ["split-kernel-and-rootfs", "--rootfs", root, "--output", at("kernel")];
    const plan = JSON.parse(await container(...split, "--dry-run"));
    expect(plan.directory).toBe(at("kernel/6.12"));
    expect(readdirSync(scratch)).not.toContain("kernel");
    expect(await container(...split)).toBe("");
    expect(readdirSync(at("kernel/6.12")).sort()).toEqual(["initramfs.img", "vmlinuz"]);
    expect(readdirSync(join(root, "usr/lib/modules/6.12"))).toEqual([]);
    const digest = (await container("compute-composefs-digest", root)).trim();
    const words = ["seal", "--dry-run", "--unsigned", `oci:${at("layout")}`, `oci:${at("sealed")}`];
    expect(JSON.parse(await container(...words)).digest).toBe(digest);

    const kernel = ["--rootfs", root, "--kernel-dir", at("kernel/6.12")];
    const output = ["--write-dumpfile-to", at("uki.dump"), "--", "--output", at("by-hand.efi")];
    const ukify = (...words: readonly string[]) => container("ukify", ...kernel, ...words);
    await expect(ukify()).rejects.toThrow(/exit code 2\n *error: Where does the kernel go/s);
    await expect(ukify("--", "--output", "os.efi")).rejects.toThrow(
      "is in the root that is measured",
    );
    const dump = ["--write-dumpfile-to", join(root, "usr/os.dump")];
    await expect(ukify(...dump, "--", "--output", at("x.efi"))).rejects.toThrow(
      /dumpfile-to .*is in the root that is measured/,
    );
    expect((await container("compute-composefs-digest", root)).trim()).toBe(digest);
    await expect(ukify("--karg", `composefs=${digest}`, ...output)).rejects.toThrow(
      "says which image starts, and sealing adds that itself",
    );
    await container("ukify", ...kernel, "--karg", "rw", ...output);
    const inspect = [
      "ukify",
      "inspect",
      at("by-hand.efi"),
      "--section",
      ".cmdline:text",
      "--json=short",
    ];
    const shown = JSON.parse(await run([join(programs, "ukify"), ...inspect.slice(1)]));
    expect(shown[".cmdline"].text).toBe(`console=ttyS0 quiet composefs=${digest} rw`);
    expect(readFileSync(at("uki.dump"), "utf8")).toMatch(/^\/ 0 40755 /);
    const weak = JSON.parse(
      await container("ukify", ...kernel, "--allow-missing-verity", "--dry-run"),
    );
    expect(weak.args.slice(0, 2)).toEqual(["build", "--linux"]);
    expect(weak.cmdline).toBe(`console=ttyS0 quiet composefs=?${digest}`);
  });

  test("what cannot be split stays as it is", async () => {
    const root = await unpack("whole");
    const modules = join(root, "usr/lib/modules/6.12");
    const split = (output: string) =>
      container("split-kernel-and-rootfs", "--rootfs", root, "--output", output);
    mkdirSync(at("taken/6.12"), { recursive: true });
    writeFileSync(at("taken/6.12/vmlinuz"), "");
    await expect(split(at("taken"))).rejects.toThrow(
      /vmlinuz" is there already; choose another --output/,
    );
    expect(readdirSync(modules).sort()).toEqual(["initramfs.img", "vmlinuz"]);
    await expect(split(join("/dev/shm", `split-${process.pid}`))).rejects.toThrow(
      "different file systems",
    );
    rmSync(join("/dev/shm", `split-${process.pid}`), { recursive: true });
    expect(readdirSync(modules).sort()).toEqual(["initramfs.img", "vmlinuz"]);
    rmSync(join(modules, "initramfs.img"));
    await expect(split(at("x"))).rejects.toThrow("run dracut before this");
    rmSync(join(modules, "vmlinuz"));
    await expect(split(at("x"))).rejects.toThrow("has no kernel");
  });
});
