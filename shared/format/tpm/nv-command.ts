// The five TPM 2.0 commands about NV counters, as bytes (TPM 2.0 Library, parts 2 and 3): read public area,
// define, increment, read, undefine. Big-endian; a command that changes or reads has one session, a password
// that is empty.
//
// Invariant: a counter of ours has 8 bytes, is read and incremented with the index's own (empty) authorization and
// is not under the dictionary-attack lock. Its policy field, which nothing evaluates, carries 32 bytes of ours.

import { FormatError } from "../../error.ts";

const TAG = { NO_SESSIONS: 0x8001, SESSIONS: 0x8002 } as const;
const COMMAND = {
  NV_UNDEFINE_SPACE: 0x122,
  NV_DEFINE_SPACE: 0x12a,
  NV_INCREMENT: 0x134,
  NV_READ: 0x14e,
  NV_READ_PUBLIC: 0x169,
} as const;
const HEAD_BYTES = 10;
const OWNER = 0x40000001;
const PASSWORD_SESSION = 0x40000009;
const SHA256 = 0x000b;
const COUNTER_BYTES = 8;
const POLICY_BYTES = 32;
/** TPMS_NV_PUBLIC of a counter of ours: index, name algorithm, attributes, policy, data size. */
const PUBLIC_BYTES = 4 + 2 + 4 + 2 + POLICY_BYTES + 2;
/** A counter, OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, NO_DA. */
const COUNTER_ATTRIBUTES = 0x02060016;
const WRITTEN = 0x20000000;

export interface TpmResponse {
  /** TPM_RC; 0 is success. */
  readonly code: number;
  readonly body: Uint8Array;
}

export function encodeReadPublic(index: number): Uint8Array {
  return frame(TAG.NO_SESSIONS, COMMAND.NV_READ_PUBLIC, u32(index));
}

export function encodeIncrement(index: number): Uint8Array {
  return authorized(COMMAND.NV_INCREMENT, [index, index]);
}

/** All of a counter, from its first byte. */
export function encodeRead(index: number): Uint8Array {
  return authorized(COMMAND.NV_READ, [index, index], u16(COUNTER_BYTES), u16(0));
}

export function encodeUndefine(index: number): Uint8Array {
  return authorized(COMMAND.NV_UNDEFINE_SPACE, [OWNER, index]);
}

/** `policy`: 32 bytes that the index keeps and never changes. */
export function encodeDefineCounter(index: number, policy: Uint8Array): Uint8Array {
  if (policy.length !== POLICY_BYTES) {
    throw malformed(`a policy has ${POLICY_BYTES} bytes, not ${policy.length}`);
  }
  const noPassword = u16(0);
  const area = [u32(index), u16(SHA256), u32(COUNTER_ATTRIBUTES), u16(POLICY_BYTES), policy];
  const parameters = [noPassword, u16(PUBLIC_BYTES), ...area, u16(COUNTER_BYTES)];
  return authorized(COMMAND.NV_DEFINE_SPACE, [OWNER], ...parameters);
}

/** FormatError when `bytes` is no response. */
export function decodeResponse(bytes: Uint8Array): TpmResponse {
  if (bytes.length < HEAD_BYTES) throw malformed(`a response of ${bytes.length} bytes`);
  const view = viewOf(bytes);
  const size = view.getUint32(2);
  if (size !== bytes.length) throw malformed(`it says ${size} bytes, and has ${bytes.length}`);
  return { code: view.getUint32(6), body: bytes.subarray(HEAD_BYTES) };
}

/** Of the answer to `encodeReadPublic`; null when the index is not a counter as `encodeDefineCounter` makes it. */
export function decodeCounterPublic(
  body: Uint8Array,
): { readonly policy: Uint8Array; readonly written: boolean } | null {
  const view = viewOf(body);
  if (body.length < 2 + PUBLIC_BYTES || view.getUint16(0) !== PUBLIC_BYTES) return null;
  const attributes = view.getUint32(8);
  const isOurs =
    view.getUint16(6) === SHA256 &&
    (attributes & ~WRITTEN) >>> 0 === COUNTER_ATTRIBUTES &&
    view.getUint16(12) === POLICY_BYTES &&
    view.getUint16(14 + POLICY_BYTES) === COUNTER_BYTES;
  if (!isOurs) return null;
  return { policy: body.slice(14, 14 + POLICY_BYTES), written: (attributes & WRITTEN) !== 0 };
}

/** Of the answer to `encodeRead`: size of the parameters, size of the data, data. */
export function decodeCounterValue(body: Uint8Array): bigint {
  const view = viewOf(body);
  if (body.length < 6 + COUNTER_BYTES || view.getUint16(4) !== COUNTER_BYTES) {
    throw malformed("it has no counter of 8 bytes");
  }
  return view.getBigUint64(6);
}

/** A command with the empty password as its one session. */
function authorized(
  code: number,
  handles: readonly number[],
  ...parameters: readonly Uint8Array[]
): Uint8Array {
  const noNonce = u16(0);
  const noAttributes = new Uint8Array(1);
  const noPassword = u16(0);
  const session = Buffer.concat([u32(PASSWORD_SESSION), noNonce, noAttributes, noPassword]);
  const body = [...handles.map(u32), u32(session.length), session, ...parameters];
  return frame(TAG.SESSIONS, code, ...body);
}

function frame(tag: number, code: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(parts);
  return Buffer.concat([u16(tag), u32(HEAD_BYTES + body.length), u32(code), body]);
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff);
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function malformed(problem: string): FormatError {
  return new FormatError("bad-value", `Cannot understand the TPM: ${problem}`, { format: "tpm" });
}
