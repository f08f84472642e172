import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { decodeFloorPolicy, encodeFloorPolicy } from "./floor-policy.ts";
import {
  decodeCounterPublic,
  decodeCounterValue,
  decodeResponse,
  encodeDefineCounter,
  encodeIncrement,
  encodeRead,
  encodeReadPublic,
  encodeUndefine,
} from "./nv-command.ts";
import { describeTpmCode, errorOfCode } from "./response-code.ts";

const INDEX = 0x01500b00;
const POLICY = encodeFloorPolicy({ kind: "floor", base: -41n });
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

// What a real TPM makes of them is in test/integration/tpm-floor.test.ts.
test.each([
  ["read public", encodeReadPublic(INDEX), "80010000000e0000016901500b00"],
  [
    "increment",
    encodeIncrement(INDEX),
    "80020000001f0000013401500b0001500b0000000009400000090000000000",
  ],
  [
    "read",
    encodeRead(INDEX),
    "8002000000230000014e01500b0001500b000000000940000009000000000000080000",
  ],
  [
    "undefine",
    encodeUndefine(INDEX),
    "80020000001f000001224000000101500b0000000009400000090000000000",
  ],
  [
    "define",
    encodeDefineCounter(INDEX, POLICY),
    `80020000004d0000012a400000010000000940000009000000000000000${"02e01500b00000b020600160020"}${hex(POLICY)}0008`,
  ],
])("the command %s", (_, bytes, expected) => {
  expect(hex(bytes)).toBe(expected);
});

test("the policy field keeps a base below zero", () => {
  expect(hex(POLICY)).toBe(
    `${Buffer.from("bootc-ts floor\0\0").toString("hex")}0000000000000000ffffffffffffffd7`,
  );
  const found = decodeFloorPolicy(POLICY);
  expect(found).toEqual({ kind: "floor", base: 2n ** 64n - 41n });
  const probe = encodeFloorPolicy({ kind: "probe", base: 0n });
  expect(decodeFloorPolicy(probe)?.kind).toBe("probe");
  expect(decodeFloorPolicy(new Uint8Array(32))).toBeNull();
  expect(decodeFloorPolicy(POLICY.with(23, 2))).toBeNull();
});

test("codes without the number of handle, session or parameter", () => {
  expect(errorOfCode(0x18b)).toBe(0x08b);
  expect(errorOfCode(0x9a2)).toBe(0x0a2);
  expect(errorOfCode(0x14a)).toBe(0x14a);
  expect(describeTpmCode(0x9a2)).toBe("TPM error 0x9a2, the owner of the TPM has a password");
  expect(describeTpmCode(0x1)).toBe("TPM error 0x001");
});

test("noise is a FormatError, or nothing of ours", () => {
  const read = (bytes: Uint8Array) => {
    const { body } = decodeResponse(bytes);
    decodeCounterPublic(body);
    decodeCounterValue(body);
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, framed) => {
      if (framed && bytes.length >= 6) new DataView(bytes.buffer).setUint32(2, bytes.length);
      try {
        read(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }),
  );
});
