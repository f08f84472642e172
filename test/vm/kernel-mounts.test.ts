// Mounting on Debian's kernels, old and new, each in a small VM: mount.composefs and prepare-root as
// programs, on a disk with fs-verity on which some objects are damaged, forged or unprotected.
// Whole systems on the same kernels: kernel-boots.test.ts.

import { beforeAll, describe, expect, test } from "vitest";
import { buildExecutable } from "../../scripts/build.ts";
import { ensureDebianKernel, type KernelChoice } from "./debian-kernel.ts";
import { expectedForm, type KernelForm } from "./kernel-form.ts";
import { type CaseResults, runMountCases } from "./mount-disk.ts";

const CHOICES: readonly KernelChoice[] = ["bookworm", "trixie", "newest"];

const RELEASES: Readonly<Record<KernelChoice, RegExp>> = {
  bookworm: /^6\.1\./,
  trixie: /^6\.12\./,
  // Whatever it is, it is newer than trixie's.
  newest: /^(?:6\.(?:1[3-9]|[2-9]\d)|[7-9]|\d\d)/,
};

const NAMES = ["etc", "run", "sbin", "sysroot", "usr", "var"];

/** What reading each file gives; the image's own digest decides about the forged ones. */
const reads = (checked: boolean) => ({
  big: "right",
  other: "right",
  small: "right",
  tampered: "EIO",
  replaced: checked ? "EIO" : "forged",
  unprotected: checked ? "EIO" : "right",
});

/** The overlay's own words in the mount table. */
function toolLayers({ layers }: KernelForm, objects: readonly string[]): RegExp {
  const count = objects.length;
  if (layers === "append") {
    const data = objects.map((path) => `,datadir\\+=/run/store/${path}`).join("");
    return new RegExp(`,lowerdir\\+=/tmp/\\.composefs\\.\\w+${data},`);
  }
  const separator = layers === "plain" ? ":" : "::";
  return new RegExp(`,lowerdir=/proc/self/fd/\\d+(${separator}/proc/self/fd/\\d+){${count}},`);
}

function rootLayers({ detachedTrees, layers }: KernelForm): RegExp {
  const fd = "/proc/self/fd/\\d+";
  // The disk is a copy of its mount that lies nowhere, so paths begin at its root.
  if (detachedTrees) return /,lowerdir\+=\/,datadir\+=\/composefs\/objects,/;
  if (layers === "append") return new RegExp(`,lowerdir\\+=${fd},datadir\\+=${fd},`);
  return new RegExp(`,lowerdir=${fd}${layers === "plain" ? ":" : "::"}${fd},`);
}

describe.each(CHOICES)("the kernel of %s", (choice) => {
  let cases: CaseResults;
  let form: KernelForm;

  beforeAll(async () => {
    await buildExecutable();
    const kernel = await ensureDebianKernel(choice, console.log);
    const started = performance.now();
    cases = await runMountCases(kernel, console.log);
    form = expectedForm(cases.release);
    const seconds = Math.round((performance.now() - started) / 1000);
    const suites = kernel.suites.join(", ");
    const found = `${cases.release} (${kernel.version} of ${suites})`;
    console.log(`${choice}: ${found}: ${JSON.stringify(form)}, ${seconds} s`);
  });
  const at = (name: string) => cases.results[name]!;
  const details = (name: string) => at(name).mounts?.[0]?.details;

  test("is of the expected series", () => {
    expect(cases.release).toMatch(RELEASES[choice]);
  });

  test("takes the layers and the image in the way it has", () => {
    expect(at("plain")).toMatchObject({ code: 0, output: "" });
    expect(details("plain")).toMatch(toolLayers(form, ["composefs/objects"]));
    expect(details("allowed")).toMatch(rootLayers(form));
    const loops = form.erofs === "loop" ? 1 : 0;
    expect([at("plain").loops, at("allowed").loops]).toEqual([loops, loops]);
    expect(at("allowed").output).toContain(` erofs=${form.erofs} `);
  });

  test("shows the image, and a damaged object as an I/O error", () => {
    expect(at("plain")).toMatchObject({ reads: reads(false), names: NAMES });
    expect(at("bare image")).toMatchObject({ code: 0, reads: reads(false), names: NAMES });
  });

  test("checks every object when told to, or says that it cannot", () => {
    for (const name of ["verity", "digest"]) {
      if (form.verity) {
        expect(at(name)).toMatchObject({ code: 0, output: "", reads: reads(true) });
        expect(details(name)).toContain(",verity=require");
      } else {
        expect(at(name).code).toBe(1);
        expect(at(name).output).toMatch(/The kernel cannot check files by fs-verity[^\n]*$/);
      }
    }
    expect(at("tryverity")).toMatchObject({ code: 0, output: "", reads: reads(form.verity) });
  });

  test("mounts an image of a repository as that asks for", () => {
    const name = "secure repository";
    if (form.verity) {
      expect(at(name)).toMatchObject({ code: 0, output: "", reads: reads(true), names: NAMES });
      expect(details(name)).toContain(",verity=require");
      expect(at(name).mounts?.[0]?.options).toMatch(/^ro,/);
    } else {
      expect(at(name).output).toMatch(
        /^error: [^\n]*The kernel cannot check files by fs-verity[^\n]*$/,
      );
      expect(at(name).code).toBe(1);
    }
    const allowed = { code: 0, output: "", reads: reads(false), names: NAMES };
    expect(at("insecure repository")).toMatchObject(allowed);
    expect(details("insecure repository")).toMatch(toolLayers(form, ["composefs/objects"]));
  });

  test("refuses images with another digest or none", () => {
    expect(at("wrong digest")).toMatchObject({ code: 1 });
    expect(at("wrong digest").output).toMatch(/wrong fs-verity[^\n]*$/);
    expect(at("digest of a bare image")).toMatchObject({ code: 1 });
    expect(at("digest of a bare image").output).toMatch(/Image has no fs-verity$/);
    expect(at("damaged image")).toMatchObject({ mark: "EIO" });
  });

  test("writes to an upper directory", () => {
    const written = { copiedUp: true, created: "new", untouched: true };
    expect(at("writable")).toMatchObject({ code: 0, output: "", ...written });
  });

  test("takes several object directories, and odd names", () => {
    expect(at("two directories")).toMatchObject({ code: 0, output: "", names: NAMES });
    expect(details("two directories")).toMatch(toolLayers(form, ["first", "second"]));
    const found = { big: "right", other: "right", unprotected: "right", small: "right" };
    expect(at("two directories")).toMatchObject({ reads: found });
    // What is in none of them: no such file, or an I/O error on older kernels.
    expect(["ENOENT", "EIO"]).toContain(at("two directories").reads?.["tampered"]);
    expect(at("odd name")).toMatchObject({ code: 0, output: "", reads: { big: "right" } });
  });

  test("maps owners", () => {
    expect(at("idmap")).toMatchObject({ code: 0, output: "", owner: 100_000 });
  });

  test("gets a root of which every file is checked, or a clear refusal", () => {
    if (form.verity) {
      expect(at("required")).toMatchObject({ code: 0, reads: reads(true), names: NAMES });
      expect(at("required").output).toContain(" verity=require ");
      expect(details("required")).toContain(",verity=require");
    } else {
      const line =
        /^prepare-root: refused: The kernel cannot check files by fs-verity [^\n]*"composefs=\?<id>"$/;
      expect(at("required").output).toMatch(line);
      expect(at("required").code).toBe(1);
    }
  });

  test("gets a root without that check when it is allowed", () => {
    expect(at("allowed")).toMatchObject({ code: 0, reads: reads(false), names: NAMES });
    expect(at("allowed").output).toContain(" verity=off ");
    const mounts = at("allowed").mounts?.map(({ target, type }) => `${target} ${type}`);
    const target = "/run/target";
    expect(mounts).toEqual([
      `${target} overlay`,
      `${target}/sysroot ext4`,
      `${target}/etc ext4`,
      `${target}/var ext4`,
    ]);
    expect(at("allowed").left).toBe(false);
  });

  test("gets a signed root of which every file is checked, or a clear refusal", () => {
    if (form.verity) {
      expect(at("signed root")).toMatchObject({ code: 0, reads: reads(true), names: NAMES });
      expect(at("signed root").output).toContain(" trust=signed ");
    } else {
      const line =
        /^prepare-root: refused: The kernel cannot check files by fs-verity [^\n]* as signed images want: [^\n]*trust\.conf$/;
      expect(at("signed root").output).toMatch(line);
      expect(at("signed root").code).toBe(1);
    }
  });

  test("gets a root in memory", () => {
    expect(at("in memory")).toMatchObject({ code: 0, reads: reads(false), names: NAMES });
    expect(at("in memory").output).toMatch(/ root=transient etc=overlay var=transient erofs=/);
    expect(at("in memory").left).toBe(false);
  });

  test("gets no root whose object store would show", () => {
    if (form.layers === "plain") {
      expect(at("version 2").output).toMatch(/refused: The kernel would show the object store/);
      expect(at("version 2").code).toBe(1);
    } else {
      expect(at("version 2")).toMatchObject({ code: 0, reads: reads(false), names: NAMES });
    }
  });

  test("gets no changed or exchanged root", () => {
    for (const name of ["wrong root", "damaged root"]) expect(at(name).code).toBe(1);
    expect(at("wrong root").output).toMatch(/^prepare-root: refused: [^\n]* was changed: [^\n]*$/);
    expect(at("damaged root").output).toMatch(/^prepare-root: refused: [^\n]* is damaged [^\n]*$/);
  });

  test("needs no system call that is newer than Linux 5.15", () => {
    for (const name of ["root with old calls", "mount with old calls"]) {
      expect(at(name)).toMatchObject({ code: 0, reads: reads(false), names: NAMES });
    }
    expect(at("new call").output).toBe("ENOSYS");
  });

  test("is left without mounts and loop devices", () => {
    expect(cases.loopsAtEnd).toBe(0);
  });
});
