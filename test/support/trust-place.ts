// A root disk with two signed deployments, a trust directory and an ESP, in a scratch directory, to be attacked
// by test/support/trust-rows.ts.

import { createHash, createPrivateKey, createPublicKey, sign as signBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  formatSignedStatement,
  formatStatement,
  type ImageStatement,
} from "../../shared/format/trust/statement.ts";
import { BIG, type ImageFiles, makeComposefsDisk, SKELETON } from "./composefs-disk.ts";

export interface SigningKey {
  readonly fingerprint: string;
  readonly privateKey: ReturnType<typeof createPrivateKey>;
  /** PEM. */
  readonly pub: string;
}

export interface TrustPlace {
  readonly disk: string;
  readonly trust: string;
  readonly esp: string;
  readonly id: string;
  readonly other: { readonly id: string };
  /** Paths below the disk. */
  readonly objects: { readonly image: string; readonly other: string };
  /** Objects that get no fs-verity. */
  readonly unprotected: Set<string>;
  readonly putKey: (name: string) => void;
}

const OTHER = "Another object. ".repeat(300);
/** Begin what is damaged behind the file system's back; each once on the whole disk. */
export const OBJECT_MARK = "This object will be changed on the disk. ";
export const IMAGE_MARK = "This image will be changed on the disk.";

const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");

/** The same key for the same name, always. */
export function trustKey(name: string): SigningKey {
  const seed = createHash("sha256").update(`key of ${name}`).digest();
  const der = Buffer.concat([PKCS8_PREFIX, seed]);
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(privateKey);
  const bytes = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  return {
    fingerprint: createHash("sha256").update(bytes).digest("hex"),
    privateKey,
    pub: publicKey.export({ format: "pem", type: "spki" }).toString(),
  };
}

/** The document for the image `id`. */
export function sign(
  id: string,
  keys: readonly SigningKey[],
  fields: Partial<ImageStatement> = {},
): string {
  const statement: ImageStatement = {
    digest: id,
    algorithm: "sha512-12",
    format: "erofs-v1",
    version: 42,
    expires: null,
    ...fields,
  };
  const text = Buffer.from(formatStatement(statement));
  return formatSignedStatement(
    statement,
    keys.map(({ fingerprint, privateKey }) => ({
      fingerprint,
      signature: signBytes(null, text, privateKey),
    })),
  );
}

export function statementPath({ disk, id }: TrustPlace, deployment = id): string {
  return join(disk, "state/deploy", deployment, `${deployment}.statement`);
}

/** `conf`: lines of trust.conf. `marks`: whether it holds what is damaged on the disk. */
export function makeTrustPlace(
  directory: string,
  name: string,
  options: { readonly conf: readonly string[]; readonly damage: string | undefined },
): TrustPlace {
  const [disk, trust, esp] = ["disk", "trust", "esp"].map((part) => join(directory, part)) as [
    string,
    string,
    string,
  ];
  for (const path of [disk, esp, join(trust, "keys.d")]) mkdirSync(path, { recursive: true });
  writeFileSync(join(trust, "trust.conf"), `[image]\n${options.conf.join("\n")}\n`);
  const mark = options.damage === OBJECT_MARK ? OBJECT_MARK : "Not damaged. ";
  const files: ImageFiles = {
    ...SKELETON,
    "usr/share/name": name,
    "usr/share/marked": mark + `Of ${name}. `.repeat(300),
    "usr/share/other": OTHER,
    "usr/share/mark": options.damage === IMAGE_MARK ? IMAGE_MARK : "Not damaged.",
    "sbin/init": "#!/bin/sh\n",
  };
  const made = makeComposefsDisk(disk, files);
  const second = { "usr/share/name": `other ${name}`, "usr/share/mark": "Not damaged." };
  const other = makeComposefsDisk(disk, { ...files, ...second });
  const place: TrustPlace = {
    disk,
    trust,
    esp,
    id: made.id,
    other: { id: other.id },
    objects: {
      image: `composefs/objects/${made.id.slice(0, 2)}/${made.id.slice(2)}`,
      other: made.objectOf(OTHER),
    },
    unprotected: new Set(),
    putKey: (key) => writeFileSync(join(trust, `keys.d/${key}.pub`), trustKey(key).pub),
  };
  place.putKey("vendor");
  for (const { id } of [made, other]) {
    writeFileSync(statementPath(place, id), sign(id, [trustKey("vendor")]));
  }
  return place;
}

/** What reading a file gives: "right", "wrong", its text when that is short, or an error's code. */
export function judgeContent(path: string, read: (path: string) => string): string {
  try {
    const text = read(path);
    if (text.length < 64) return text;
    const right = path.endsWith("/big") ? BIG : path.endsWith("/other") ? OTHER : null;
    return right === null || text === right ? "right" : "wrong";
  } catch (error) {
    return (error as { code?: string }).code ?? "no code";
  }
}
