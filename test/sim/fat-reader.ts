// Reads a FAT file system as a boot loader does (Microsoft's FAT specification 1.03): what its tables and
// directories say, without mending anything. Faults are what a careful reader stumbles over.

interface Volume {
  readonly image: Uint8Array;
  readonly view: DataView;
  readonly clusterBytes: number;
  readonly dataOffset: number;
  readonly fatOffset: number;
  readonly clusterCount: number;
  readonly rootCluster: number;
}

export interface FatTree {
  /** Contents by path ("loader/entries/x.conf"); directories end with "/". */
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly faults: readonly string[];
}

const ATTRIBUTE = { DIRECTORY: 0x10, VOLUME: 0x08, LONG_NAME: 0x0f } as const;
const END_OF_CHAIN = 0x0ffffff8;
const NO_FILES: ReadonlyMap<string, Uint8Array> = new Map();

/** FAT32 only: what the tests make. */
export function readFat(image: Uint8Array): FatTree {
  const volume = openVolume(image);
  if (typeof volume === "string") return { files: NO_FILES, faults: [volume] };
  const files = new Map<string, Uint8Array>();
  const faults: string[] = [];
  const owners = new Map<number, string>();
  const visit = (cluster: number, path: string, depth: number) => {
    if (depth > 16) {
      faults.push(`${path}: too deep`);
      return;
    }
    const bytes = readChain(volume, cluster, path, owners, faults);
    for (const entry of listDirectory(bytes)) {
      const child = `${path}${entry.name}`;
      if (entry.isDirectory) {
        files.set(`${child}/`, new Uint8Array());
        if (entry.cluster === 0) faults.push(`${child}/ has no cluster`);
        else visit(entry.cluster, `${child}/`, depth + 1);
        continue;
      }
      const content =
        entry.cluster === 0
          ? new Uint8Array()
          : readChain(volume, entry.cluster, child, owners, faults);
      if (content.length < entry.sizeBytes) faults.push(`${child} is shorter than it says`);
      files.set(child, content.subarray(0, entry.sizeBytes));
    }
  };
  visit(volume.rootCluster, "", 0);
  return { files, faults };
}

function openVolume(image: Uint8Array): Volume | string {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (view.getUint16(510, true) !== 0xaa55) return "the boot sector is not one";
  const sectorBytes = view.getUint16(11, true);
  const sectorsPerCluster = view.getUint8(13);
  const reserved = view.getUint16(14, true);
  const fatSectors = view.getUint32(36, true);
  const dataSector = reserved + view.getUint8(16) * fatSectors;
  if (view.getUint16(22, true) !== 0 || fatSectors === 0) return "this is not FAT32";
  return {
    image,
    view,
    clusterBytes: sectorBytes * sectorsPerCluster,
    dataOffset: dataSector * sectorBytes,
    fatOffset: reserved * sectorBytes,
    clusterCount: Math.floor((view.getUint32(32, true) - dataSector) / sectorsPerCluster),
    rootCluster: view.getUint32(44, true),
  };
}

function readChain(
  volume: Volume,
  first: number,
  path: string,
  owners: Map<number, string>,
  faults: string[],
): Uint8Array {
  const parts: Uint8Array[] = [];
  const seen = new Set<number>();
  for (let cluster = first; cluster < END_OF_CHAIN; ) {
    if (cluster < 2 || cluster >= volume.clusterCount + 2) {
      faults.push(`${path} runs into cluster ${cluster}`);
      break;
    }
    const owner = owners.get(cluster);
    if (seen.has(cluster)) {
      faults.push(`${path} shares cluster ${cluster} with itself`);
      break;
    }
    seen.add(cluster);
    // Whoever only reads gets all of both.
    if (owner !== undefined) faults.push(`${path} shares cluster ${cluster} with ${owner}`);
    else owners.set(cluster, path);
    const start = volume.dataOffset + (cluster - 2) * volume.clusterBytes;
    parts.push(volume.image.subarray(start, start + volume.clusterBytes));
    cluster = volume.view.getUint32(volume.fatOffset + cluster * 4, true) & 0x0fffffff;
    if (cluster === 0) {
      faults.push(`${path} has a free cluster`);
      break;
    }
  }
  return Buffer.concat(parts);
}

interface FatEntry {
  readonly name: string;
  readonly isDirectory: boolean;
  readonly cluster: number;
  readonly sizeBytes: number;
}

function* listDirectory(bytes: Uint8Array): Generator<FatEntry> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let long: string[] = [];
  for (let at = 0; at + 32 <= bytes.length; at += 32) {
    const first = bytes[at]!;
    if (first === 0) return;
    const attributes = bytes[at + 11]!;
    if (first === 0xe5) {
      long = [];
    } else if (attributes === ATTRIBUTE.LONG_NAME) {
      long.unshift(longPart(view, at));
    } else {
      const name = long.length > 0 ? long.join("").replace(/\0.*$/s, "") : shortName(bytes, at);
      long = [];
      if ((attributes & ATTRIBUTE.VOLUME) !== 0 || name === "." || name === "..") continue;
      yield {
        name,
        isDirectory: (attributes & ATTRIBUTE.DIRECTORY) !== 0,
        cluster: view.getUint16(at + 20, true) * 65_536 + view.getUint16(at + 26, true),
        sizeBytes: view.getUint32(at + 28, true),
      };
    }
  }
}

/** 13 characters, in three pieces. */
function longPart(view: DataView, at: number): string {
  const offsets = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
  return offsets.map((offset) => String.fromCharCode(view.getUint16(at + offset, true))).join("");
}

/** Byte 12 says which half is to be lower case (as Linux and Windows NT write it). */
function shortName(bytes: Uint8Array, at: number): string {
  const text = (start: number, length: number) =>
    Buffer.from(bytes.subarray(at + start, at + start + length))
      .toString("latin1")
      .trimEnd();
  const flags = bytes[at + 12]!;
  const stem = (flags & 0x08) !== 0 ? text(0, 8).toLowerCase() : text(0, 8);
  const extension = (flags & 0x10) !== 0 ? text(8, 3).toLowerCase() : text(8, 3);
  return extension === "" ? stem : `${stem}.${extension}`;
}
