// NV counters of a TPM 2.0, with raw commands: no library, no daemon (boot-counting-and-esp.md 7).
//
// The kernel's /dev/tpmrm0 takes one command with one write and gives the answer to one read of the same
// descriptor; how long a command may take is the driver's business. Nothing here is kept between commands.

import { isErrno, StateError } from "../error.ts";
import {
  decodeCounterPublic,
  decodeCounterValue,
  decodeResponse,
  encodeDefineCounter,
  encodeIncrement,
  encodeRead,
  encodeReadPublic,
  encodeUndefine,
} from "../format/tpm/nv-command.ts";
import { describeTpmCode, errorOfCode, TPM_CODE } from "../format/tpm/response-code.ts";
import { O } from "./constants.ts";
import { openat, read, writeAll } from "./file.ts";

/** TPM_PT_MAX_RESPONSE_SIZE of the TPMs there are. */
const RESPONSE_LIMIT_BYTES = 4096;

/** Sends one command and returns the whole answer. */
export interface Tpm extends Disposable {
  readonly transact: (command: Uint8Array) => Uint8Array;
}

/** `counter`: it is one as `defineNvCounter` makes it; anything else at that index is `foreign`. */
export type NvIndex =
  | { readonly kind: "none" }
  | { readonly kind: "foreign" }
  | { readonly kind: "counter"; readonly policy: Uint8Array; readonly written: boolean };

/** The TPM behind the device `path`; null when there is none. */
export function openTpm(path: string): Tpm | null {
  try {
    const fd = openat(null, path, O.RDWR);
    const transact = (command: Uint8Array) => {
      writeAll(fd, command);
      const answer = new Uint8Array(RESPONSE_LIMIT_BYTES);
      return answer.subarray(0, read(fd, answer));
    };
    return { transact, [Symbol.dispose]: () => fd.close() };
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENODEV", "ENXIO", "ENOTDIR")) return null;
    throw error;
  }
}

export function readNvIndex(tpm: Tpm, index: number): NvIndex {
  const { body, code } = send(tpm, encodeReadPublic(index));
  if (errorOfCode(code) === TPM_CODE.HANDLE) return { kind: "none" };
  if (code !== TPM_CODE.SUCCESS) throw refused("read the index", index, code);
  const found = decodeCounterPublic(body);
  return found === null ? { kind: "foreign" } : { kind: "counter", ...found };
}

/** `policy`: 32 bytes that stay with the index. StateError when the index is taken, or the TPM will not. */
export function defineNvCounter(tpm: Tpm, index: number, policy: Uint8Array): void {
  act(tpm, encodeDefineCounter(index, policy), "make the counter", index);
}

/** The first increment gives the counter its first value: one more than any counter of this TPM ever had. */
export function incrementNvCounter(tpm: Tpm, index: number): void {
  act(tpm, encodeIncrement(index), "increment the counter", index);
}

export function undefineNvCounter(tpm: Tpm, index: number): void {
  act(tpm, encodeUndefine(index), "remove the counter", index);
}

/** Null before the first increment. */
export function readNvCounter(tpm: Tpm, index: number): bigint | null {
  const { body, code } = send(tpm, encodeRead(index));
  if (code === TPM_CODE.NV_UNINITIALIZED) return null;
  if (code !== TPM_CODE.SUCCESS) throw refused("read the counter", index, code);
  return decodeCounterValue(body);
}

function act(tpm: Tpm, command: Uint8Array, what: string, index: number): void {
  const { code } = send(tpm, command);
  if (code !== TPM_CODE.SUCCESS) throw refused(what, index, code);
}

function send(tpm: Tpm, command: Uint8Array) {
  return decodeResponse(tpm.transact(command));
}

function refused(what: string, index: number, code: number): StateError {
  const message = `Cannot ${what} 0x${index.toString(16)} of the TPM: ${describeTpmCode(code)}`;
  return new StateError("command-failed", message, { index, code });
}
