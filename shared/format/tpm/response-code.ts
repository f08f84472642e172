// What TPM response codes mean (TPM 2.0 Library, part 2, 6.6), for the commands that this program sends.
//
// A format-one code (bit 7) says in other bits which handle, session or parameter it is about; only the error
// itself matters here.

export const TPM_CODE = {
  SUCCESS: 0,
  /** The first read of a counter that was never incremented. */
  NV_UNINITIALIZED: 0x14a,
  NV_DEFINED: 0x14c,
  /** Format one: no such handle. */
  HANDLE: 0x08b,
} as const;

const MEANINGS: ReadonlyMap<number, string> = new Map([
  [0x100, "it was not started by the firmware"],
  [0x101, "it is in failure mode: switch the machine off and on"],
  [0x12f, "the index wants a policy, not a password"],
  [0x143, "it does not know the command"],
  [0x149, "the index may not be used so"],
  [0x14a, "the counter was never incremented"],
  [0x14b, "its memory is full: remove an index that nobody needs (tpm2_nvundefine)"],
  [0x14c, "the index is defined already"],
  [0x082, "it does not accept the attributes"],
  [0x085, "it does not accept the hierarchy: the owner hierarchy is switched off in the firmware"],
  [0x08b, "there is no such index"],
  [0x08e, "the owner of the TPM has a password"],
  [0x0a2, "the owner of the TPM has a password"],
  [0x920, "too many writes at once: try again later"],
  [
    0x921,
    "it is locked after too many wrong passwords: wait, or clear the lock (tpm2_dictionarylockout -c)",
  ],
  [0x922, "it is busy: try again"],
  [0x923, "its memory cannot be written now"],
]);

/** Without the number of the handle, session or parameter. */
export function errorOfCode(code: number): number {
  return (code & 0x80) === 0 ? code : code & 0xbf;
}

/** "0x14b, its memory is full: …" */
export function describeTpmCode(code: number): string {
  const meaning = MEANINGS.get(errorOfCode(code));
  const number = `0x${code.toString(16).padStart(3, "0")}`;
  return meaning === undefined ? `TPM error ${number}` : `TPM error ${number}, ${meaning}`;
}
