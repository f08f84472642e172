// What the policy field of the floor's NV counter says: a magic, a state, and the base that is taken from the
// counter's value (decision 0019). The field is fixed when the index is made; the TPM never evaluates it, since
// no attribute of the index asks for a policy.
//
// - `probe`: made only to learn where a new counter of this TPM begins. Its value means nothing.
// - `floor`: floor = value - base, modulo 2^64, as a new counter may begin below the version it stands for.

import { bytes, struct, u64be } from "../../bytes/layout.ts";

const MAGIC = Buffer.from("bootc-ts floor\0\0", "latin1");
const KIND = { floor: 0n, probe: 1n } as const;

export interface FloorPolicy {
  readonly kind: keyof typeof KIND;
  readonly base: bigint;
}

const Policy = struct("bootc-ts floor policy", 32, {
  magic: bytes(16),
  kind: u64be,
  base: u64be,
});

export function encodeFloorPolicy({ base, kind }: FloorPolicy): Uint8Array {
  return Policy.encode({ magic: MAGIC, kind: KIND[kind], base });
}

/** Null when the field is not ours. */
export function decodeFloorPolicy(policy: Uint8Array): FloorPolicy | null {
  const { base, kind, magic } = Policy.decode(policy);
  if (!MAGIC.equals(magic)) return null;
  if (kind === KIND.floor) return { kind: "floor", base };
  return kind === KIND.probe ? { kind: "probe", base } : null;
}
