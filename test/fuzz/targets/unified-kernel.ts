// Fuzz target: sections of PE programs. Whatever is accepted lies within the file, apart from each other, and
// has one section of each name that matters.

import { type PeSections, parsePeProgram } from "../../../shared/format/uki/pe.ts";
import { buildUki } from "../../support/uki-builder.ts";
import { type FuzzTarget, PropertyError } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^shared\/format\/uki\//,
  maxBytes: 8192,
  words: [".linux\0\0", ".initrd\0", ".cmdline", ".profile", "PE\0\0", "MZ"],
  seeds: () => [
    buildUki([
      [".osrel", "ID=debian\n"],
      [".cmdline", "quiet"],
      [".linux", "kernel"],
      [".initrd", "initramfs"],
      [".uname", "6.12.1"],
    ]),
    buildUki([
      [".linux", "kernel"],
      [".profile", "ID=a"],
      [".cmdline", "a"],
      [".profile", "ID=b"],
      [".cmdline", "b"],
    ]),
  ],
  check(input) {
    const { profiles } = parsePeProgram(input, input.length);
    for (const profile of profiles) checkSections(input, profile);
    return true;
  },
};

function checkSections(input: Uint8Array, profile: PeSections): void {
  const sections = profile.filter(({ sizeBytes }) => sizeBytes > 0);
  for (const { name, offset, sizeBytes } of sections) {
    if (offset < 0 || offset + sizeBytes > input.length) {
      throw new PropertyError(`"${name}" is outside of the file: ${offset} + ${sizeBytes}`);
    }
    const others = sections.filter((other) => other.offset !== offset);
    if (
      others.some(
        (other) => other.offset < offset + sizeBytes && offset < other.offset + other.sizeBytes,
      )
    ) {
      throw new PropertyError(`"${name}" overlaps another section`);
    }
  }
  const kernels = sections.filter(({ name }) => name === ".linux");
  if (kernels.length > 1) throw new PropertyError("There are two kernels");
}
