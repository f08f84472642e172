// Fuzz target: what prepare-root believes before anything else: signed statements, the public keys and lists of the trust
// directory. A statement that is accepted is written again byte for byte, and nobody's key has signed it.

import { parseTrustAnchors } from "../../../shared/format/trust/anchors.ts";
import { judgeImage } from "../../../shared/format/trust/judgement.ts";
import { makeTrustKey, parseTrustKeys } from "../../../shared/format/trust/key.ts";
import {
  formatSignedStatement,
  formatStatement,
  type ImageStatement,
  parseSignedStatement,
} from "../../../shared/format/trust/statement.ts";
import { attempt, checkSameBytes, type FuzzTarget, PropertyError } from "../target.ts";

const KEY = makeTrustKey(Buffer.alloc(32, 9), "key.pub");
const PEM = `-----BEGIN PUBLIC KEY-----\n${Buffer.concat([
  Buffer.from("302a300506032b6570032100", "hex"),
  KEY.bytes,
]).toString("base64")}\n-----END PUBLIC KEY-----\n`;
const STATEMENT: ImageStatement = {
  digest: "ab".repeat(32),
  algorithm: "sha256-12",
  format: "erofs-v2",
  version: 42,
  expires: "2027-01-01T00:00:00Z",
};
const CONF = "[image]\ncounter=esp\nexpired=warn\nallow-missing-verity=true\n";

export const target: FuzzTarget = {
  focus: /^shared\/format\/trust\//,
  maxBytes: 1024,
  errors: ["FormatError", "PolicyError"],
  words: ["version: ", "expires: ", "signature: ", "sha512-12", "erofs-v1", "\r\n", "key ", "#"],
  *seeds() {
    const { fingerprint } = KEY;
    const signature = { fingerprint, signature: Buffer.alloc(64, 7) };
    yield Buffer.from(formatSignedStatement(STATEMENT, [signature]));
    yield Buffer.from(formatSignedStatement({ ...STATEMENT, expires: null }, [signature]));
    yield Buffer.from(PEM);
    yield Buffer.from(`${Buffer.from(KEY.bytes).toString("base64")}\n`);
    yield Buffer.from(`# x\nkey ${fingerprint}\ndigest ${STATEMENT.digest}\n`);
    yield Buffer.from(CONF);
  },
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    const files = (keys: string, revoked: string, conf: string | null) =>
      attempt(() => {
        const one = (value: string) => new Map(value === "" ? [] : [["x", value]]);
        return parseTrustAnchors({ keys: one(keys), revoked: one(revoked), conf });
      });
    const others = [
      attempt(() => parseTrustKeys(text, "x")),
      files("", text, null),
      files("", "", text),
    ];
    const isOther = others.some((result) => "value" in result);
    const signed = attempt(() => parseSignedStatement(input, "x"));
    if ("error" in signed) return isOther;
    const { signatures, statement } = signed.value;
    const again = formatSignedStatement(statement, signatures);
    checkSameBytes(Buffer.from(again), input, "Written again");
    checkSameBytes(Buffer.from(formatStatement(statement)), Buffer.from(signed.value.text), "Text");
    const anchors = parseTrustAnchors({
      keys: new Map([["key.pub", PEM]]),
      revoked: new Map(),
      conf: null,
    });
    const { digest: id, algorithm } = statement;
    const now = new Date(0);
    const question = { id, algorithm, anchors, document: input, floor: null, now };
    if ("value" in attempt(() => judgeImage(question))) {
      throw new PropertyError("Signed by a key that signed nothing");
    }
    return true;
  },
};
