// Tar archives for tests, block by block: also those that no sane tool would write.

export interface TarMember {
  readonly name: string | Buffer;
  /** "0" file, "5" directory, … */
  readonly type?: string;
  readonly content?: string | Buffer;
  readonly linkName?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly device?: readonly [major: number, minor: number];
  /** Size field, when it should lie. */
  readonly sizeBytes?: number;
  readonly magic?: "ustar" | "gnu" | "v7";
  readonly prefix?: string;
  /** Bytes put over the finished header, before the checksum is made. */
  readonly patch?: readonly [offset: number, bytes: Buffer];
  /** Added to the right checksum. */
  readonly checksumError?: number;
}

const MAGIC = { ustar: "ustar\x0000", gnu: "ustar  \0", v7: "" } as const;

/** Header, content and padding of one member. */
export function tarMember(member: TarMember): Buffer {
  const content = Buffer.from(member.content ?? "");
  const block = Buffer.alloc(512);
  Buffer.from(member.name).copy(block, 0, 0, 100);
  writeOctal(block, 100, 8, member.mode ?? 0o644);
  writeOctal(block, 108, 8, member.uid ?? 0);
  writeOctal(block, 116, 8, member.gid ?? 0);
  writeOctal(block, 124, 12, member.sizeBytes ?? content.length);
  writeOctal(block, 136, 12, member.mtime ?? 0);
  block.write(member.type ?? "0", 156, "latin1");
  Buffer.from(member.linkName ?? "").copy(block, 157, 0, 100);
  block.write(MAGIC[member.magic ?? "ustar"], 257, "latin1");
  if (member.device !== undefined) {
    writeOctal(block, 329, 8, member.device[0]);
    writeOctal(block, 337, 8, member.device[1]);
  }
  if (member.prefix !== undefined) block.write(member.prefix, 345, 155, "latin1");
  if (member.patch !== undefined) member.patch[1].copy(block, member.patch[0]);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  writeOctal(block, 148, 7, sum + (member.checksumError ?? 0));
  return Buffer.concat([block, content, Buffer.alloc(-content.length & 511)]);
}

/** A PAX header member; values may be any bytes. */
export function paxMember(
  records: readonly (readonly [key: string, value: string | Buffer])[],
  type = "x",
): Buffer {
  const content = Buffer.concat(records.map(([key, value]) => paxRecord(key, Buffer.from(value))));
  return tarMember({ name: "PaxHeaders/x", type, content });
}

/** Two zero blocks. */
export const TAR_END = Buffer.alloc(1024);

function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, "latin1"), value, Buffer.from("\n")]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length++;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function writeOctal(block: Buffer, offset: number, width: number, value: number): void {
  block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, offset, "latin1");
}
