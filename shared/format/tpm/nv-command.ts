// The five TPM 2.0 commands about NV counters, as bytes (TPM 2.0 Library, parts 2 and 3): read public area,
// define, increment, read, undefine. Big-endian; a command that changes or reads has one session, a password
// that is empty.
//
// Invariant: a counter of ours has 8 bytes, is read and incremented with the index's own (empty) authorization and
// is not under the dictionary-attack lock. Its policy field, which nothing evaluates, carries 32 bytes of ours.

import { bytes, constant, struct, u8, u16be, u32be, u64be } from "../../bytes/layout.ts";
import { FormatError } from "../../error.ts";

const TAG = { NO_SESSIONS: 0x8001, SESSIONS: 0x8002 } as const;
const COMMAND = {
  NV_UNDEFINE_SPACE: 0x122,
  NV_DEFINE_SPACE: 0x12a,
  NV_INCREMENT: 0x134,
  NV_READ: 0x14e,
  NV_READ_PUBLIC: 0x169,
} as const;
const OWNER = 0x40000001;
const PASSWORD_SESSION = 0x40000009;
const SHA256 = 0x000b;
const COUNTER_BYTES = 8;
const POLICY_BYTES = 32;
/** A counter, OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, NO_DA. */
const COUNTER_ATTRIBUTES = 0x02060016;
const WRITTEN = 0x20000000;

/** Declared when a TPM is spoken to: every start of a machine without keys would pay for it. */
function declareLayouts() {
  /** Handle areas and parameters, all with the same head and session. */
  const head = (code: number, sizeBytes: number, tag: number = TAG.SESSIONS) => ({
    tag: constant(u16be, tag),
    size: constant(u32be, sizeBytes),
    code: constant(u32be, code),
  });
  const session = {
    authorizationBytes: constant(u32be, 9),
    sessionHandle: constant(u32be, PASSWORD_SESSION),
    nonceBytes: constant(u16be, 0),
    sessionAttributes: constant(u8, 0),
    passwordBytes: constant(u16be, 0),
  };

  const ReadPublic = struct("TPM2_NV_ReadPublic", 14, {
    ...head(COMMAND.NV_READ_PUBLIC, 14, TAG.NO_SESSIONS),
    index: u32be,
  });
  const Increment = struct("TPM2_NV_Increment", 31, {
    ...head(COMMAND.NV_INCREMENT, 31),
    authHandle: u32be,
    index: u32be,
    ...session,
  });
  const Read = struct("TPM2_NV_Read", 35, {
    ...head(COMMAND.NV_READ, 35),
    authHandle: u32be,
    index: u32be,
    ...session,
    bytesToRead: constant(u16be, COUNTER_BYTES),
    offset: constant(u16be, 0),
  });
  const Undefine = struct("TPM2_NV_UndefineSpace", 31, {
    ...head(COMMAND.NV_UNDEFINE_SPACE, 31),
    authHandle: constant(u32be, OWNER),
    index: u32be,
    ...session,
  });
  /** TPMS_NV_PUBLIC of a counter of ours. */
  const counterPublic = {
    index: u32be,
    nameAlgorithm: u16be,
    attributes: u32be,
    policyBytes: constant(u16be, POLICY_BYTES),
    policy: bytes(POLICY_BYTES),
    dataBytes: u16be,
  };
  const Define = struct("TPM2_NV_DefineSpace", 77, {
    ...head(COMMAND.NV_DEFINE_SPACE, 77),
    authHandle: constant(u32be, OWNER),
    ...session,
    newPasswordBytes: constant(u16be, 0),
    publicBytes: constant(u16be, 46),
    ...counterPublic,
  });

  const ResponseHead = struct("TPM response", 10, { tag: u16be, size: u32be, code: u32be });
  const CounterPublic = struct("TPMS_NV_PUBLIC", 46, counterPublic);
  /** Of a command with a session: parameter size, then TPM2B_MAX_NV_BUFFER. */
  const CounterValue = struct("TPM2_NV_Read response", 14, {
    parameterBytes: u32be,
    dataBytes: constant(u16be, COUNTER_BYTES),
    value: u64be,
  });
  return {
    ReadPublic,
    Increment,
    Read,
    Undefine,
    Define,
    ResponseHead,
    CounterPublic,
    CounterValue,
  };
}

let declared: ReturnType<typeof declareLayouts> | undefined;
const layouts = () => (declared ??= declareLayouts());

export interface TpmResponse {
  /** TPM_RC; 0 is success. */
  readonly code: number;
  readonly body: Uint8Array;
}

export function encodeReadPublic(index: number): Uint8Array {
  return layouts().ReadPublic.encode({ index });
}

export function encodeIncrement(index: number): Uint8Array {
  return layouts().Increment.encode({ authHandle: index, index });
}

export function encodeRead(index: number): Uint8Array {
  return layouts().Read.encode({ authHandle: index, index });
}

export function encodeUndefine(index: number): Uint8Array {
  return layouts().Undefine.encode({ index });
}

/** `policy`: 32 bytes that the index keeps and never changes. */
export function encodeDefineCounter(index: number, policy: Uint8Array): Uint8Array {
  return layouts().Define.encode({
    index,
    nameAlgorithm: SHA256,
    attributes: COUNTER_ATTRIBUTES,
    policy,
    dataBytes: COUNTER_BYTES,
  });
}

/** FormatError when `bytes` is no response. */
export function decodeResponse(response: Uint8Array): TpmResponse {
  const { ResponseHead } = layouts();
  const { code, size } = ResponseHead.decode(response);
  if (size !== response.length) {
    throw new FormatError("bad-value", `TPM response says ${size} bytes, has ${response.length}`, {
      format: "tpm",
    });
  }
  return { code, body: response.subarray(ResponseHead.sizeBytes) };
}

/** Of the answer to `encodeReadPublic`; null when the index is not a counter as `encodeDefineCounter` makes it. */
export function decodeCounterPublic(
  body: Uint8Array,
): { readonly policy: Uint8Array; readonly written: boolean } | null {
  const { CounterPublic } = layouts();
  const { sizeBytes } = CounterPublic;
  if (body.length < 2 + sizeBytes || body[0] !== 0 || body[1] !== sizeBytes) return null;
  let found: ReturnType<typeof CounterPublic.decode>;
  try {
    found = CounterPublic.decode(body, 2);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
  const written = (found.attributes & WRITTEN) !== 0;
  const attributes = (found.attributes & ~WRITTEN) >>> 0;
  const isOurs =
    found.nameAlgorithm === SHA256 &&
    attributes === COUNTER_ATTRIBUTES &&
    found.dataBytes === COUNTER_BYTES;
  return isOurs ? { policy: found.policy, written } : null;
}

/** Of the answer to `encodeRead`. */
export function decodeCounterValue(body: Uint8Array): bigint {
  return layouts().CounterValue.decode(body).value;
}
