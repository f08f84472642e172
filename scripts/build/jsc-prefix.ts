// Makes JavaScriptCore's search for BUN_JSC_* variables find nothing.
//
// There is no string to blank: the compiler turned `startsWith("BUN_JSC_")` into eight comparisons of
// one byte each, every one followed by a conditional jump to the next variable (seen in Bun 1.4.5 for
// x86-64 and arm64). The first of these jumps is made unconditional.

import { UnsupportedError } from "../../shared/error.ts";
import { MACHINE } from "./elf.ts";

const PREFIX = Buffer.from("BUN_JSC_", "latin1");

/** Changes the machine code in `text` in place; returns how many places were found and changed. */
export function disableJscPrefix(text: Buffer, machine: number): number {
  if (machine === MACHINE.x64) {
    const jumps = findJumpsX64(text);
    for (const at of jumps) text[at] = 0xeb; // jne rel8 -> jmp rel8
    return jumps.length;
  }
  if (machine === MACHINE.arm64) {
    const jumps = findJumpsArm64(text);
    for (const at of jumps) text[at] = (text[at]! & 0xf0) | 0x0e; // b.ne -> b.al
    return jumps.length;
  }
  throw new UnsupportedError(
    "architecture",
    `Cannot harden a Bun executable for ELF machine ${machine}: only x86-64 and arm64 are known`,
  );
}

/** `cmpb $'B', (r); jne …; cmpb $'U', 1(r); jne …`: 6 bytes, then 7 for each that has an offset. */
function findJumpsX64(text: Buffer): number[] {
  const secondComparison = Buffer.of(1, PREFIX[1]!, 0x75);
  const jumps: number[] = [];
  for (let at = text.indexOf(secondComparison); at >= 0; ) {
    const firstJump = at - 5;
    const matches =
      text[firstJump - 1] === PREFIX[0] &&
      text[firstJump] === 0x75 &&
      PREFIX.every((byte, index) => {
        const comparison = at + (index - 1) * 7;
        return index === 0 || (text[comparison] === index && text[comparison + 1] === byte);
      });
    if (matches) jumps.push(firstJump);
    at = text.indexOf(secondComparison, at + 1);
  }
  return jumps;
}

/** `ldrb w, [x, #index]; cmp w, #byte; b.ne …`: three words for each byte. */
function findJumpsArm64(text: Buffer): number[] {
  const words = new Uint32Array(
    text.buffer.slice(text.byteOffset, text.byteOffset + (text.length & ~3)),
  );
  const isComparison = (word: number, byte: number) =>
    (word & 0xffc0001f) >>> 0 === 0x7100001f && ((word >>> 10) & 0xfff) === byte;
  const isJump = (word: number) => (word & 0xff00001f) >>> 0 === 0x54000001;
  const jumps: number[] = [];
  for (let at = 0; at + 3 * PREFIX.length <= words.length; at++) {
    const matches = PREFIX.every(
      (byte, index) =>
        isComparison(words[at + 3 * index]!, byte) && isJump(words[at + 3 * index + 1]!),
    );
    if (matches) jumps.push((at + 1) * 4);
  }
  return jumps;
}
