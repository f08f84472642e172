// Scratch machines whose images are signed: images with a trust directory and statements, and starts that
// prepare-root's own judgement allows or refuses.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DEFAULT_OPTIONS } from "../../initrd/options.ts";
import { judgeStart, readInitramfsTrust } from "../../initrd/trust.ts";
import { makeTrustRecord, writeTrustRecord } from "../../initrd/trust-record.ts";
import type { ImageStatement } from "../../shared/format/trust/statement.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { STATEMENT_ANNOTATION } from "../../updater/image/statement-source.ts";
import { type ScratchImage, writeScratchImage } from "./scratch-image.ts";
import { assess, type RunningMachine, type ScratchMachine } from "./scratch-machine.ts";
import { sign, trustKey } from "./trust-place.ts";
import { measureScratchImage, writeUnifiedImage } from "./unified-image.ts";

export interface TrustedImage extends ScratchImage {
  /** Names of the keys in its trust directory. */
  readonly keys?: readonly string[];
  /** Lines of revoked.d. */
  readonly revoked?: readonly string[];
  /** Lines of trust.conf. */
  readonly conf?: readonly string[];
  /** Names of the keys that sign it; absent: it is not signed. */
  readonly signers?: readonly string[];
  readonly statement?: Partial<ImageStatement>;
  /** With a unified kernel of this command line ("ID" is the image's), or none. */
  readonly uki?: string | null;
  readonly signUki?: (uki: Uint8Array) => Uint8Array;
  /** Name of the key that its unified kernel brings. */
  readonly ownKey?: string;
}

const TRUST = "usr/lib/bootc/trust";

/** Files below the trust directory. The disks of scratch machines have no fs-verity. */
function trustFiles({ keys = [], revoked = [], ...image }: TrustedImage): Map<string, string> {
  const isSigned = keys.length > 0 || image.ownKey !== undefined;
  const conf = isSigned ? ["allow-missing-verity=true", ...(image.conf ?? [])] : image.conf;
  return new Map([
    ...keys.map((name): [string, string] => [`keys.d/${name}.pub`, trustKey(name).pub]),
    ...(revoked.length === 0 ? [] : [["revoked.d/list", revoked.join("\n")] as const]),
    ...(conf === undefined ? [] : [["trust.conf", `[image]\n${conf.join("\n")}\n`] as const]),
  ]);
}

/** Images and starts of one machine. */
export class TrustedImages {
  readonly #machine: ScratchMachine;
  /** The trust directory of each image and of its initramfs, by deployment. */
  readonly #files = new Map<string, Record<"tree" | "initramfs", ReadonlyMap<string, string>>>();

  constructor(machine: ScratchMachine) {
    this.#machine = machine;
  }

  /** Writes the image with its statement to `path`; returns the deployment's id. */
  async write(path: string, image: TrustedImage): Promise<string> {
    const files = trustFiles(image);
    const directories = ["bootc", "bootc/trust", "bootc/trust/keys.d", "bootc/trust/revoked.d"];
    const members = [
      ...(files.size === 0 ? [] : directories).map((name) => ({
        name: `usr/lib/${name}/`,
        type: "5",
        mode: 0o755,
      })),
      ...[...files].map(([name, content]) => ({ name: `${TRUST}/${name}`, content })),
      ...(image.members ?? []),
    ];
    const plain = { ...image, members };
    const id = (await measureScratchImage(plain)).id;
    this.#files.set(id, { tree: files, initramfs: withOwnKey(files, image) });
    await writeKernelImage(path, plain);
    const { signers, statement } = image;
    if (signers === undefined) return id;
    const text = sign(
      id,
      signers.map((name) => trustKey(name)),
      statement,
    );
    const annotations = { ...image.annotations, [STATEMENT_ANNOTATION]: text };
    await writeKernelImage(path, { ...plain, annotations });
    return id;
  }

  /** As `ScratchMachine.boot`, with prepare-root's word: throws what it would refuse with. */
  boot(position = 0, good = true): RunningMachine {
    const machine = this.#machine;
    const running = machine.boot(position, false);
    const { id } = running.booted;
    const files = this.#files.get(id)!;
    const trust = join(machine.directory, "initramfs");
    writeFiles(join(machine.root, TRUST), files.tree);
    writeFiles(trust, files.initramfs);
    try {
      using disk = openDirectory(null, machine.disk);
      const karg = { key: "composefs", digest: id, algorithm: "sha512", optional: false } as const;
      const options = {
        ...DEFAULT_OPTIONS,
        esp: machine.esp,
        tpm: join(machine.directory, "dev/tpmrm0"),
      };
      const start = judgeStart(karg, disk, readInitramfsTrust(trust), options);
      writeTrustRecord(machine.run, false, makeTrustRecord(id, start, false));
    } catch (error) {
      running[Symbol.dispose]();
      throw error;
    }
    if (good) assess(running, true);
    return running;
  }
}

function withOwnKey(files: ReadonlyMap<string, string>, { ownKey }: TrustedImage) {
  if (ownKey === undefined) return files;
  return new Map([...files, ["keys.d/ephemeral.pub", trustKey(ownKey).pub]]);
}

async function writeKernelImage(path: string, image: TrustedImage): Promise<void> {
  const { ownKey, uki } = image;
  if (uki === undefined) writeScratchImage(path, image);
  else {
    const ownKeys = ownKey === undefined ? {} : { ownKeys: trustKey(ownKey).pub };
    await writeUnifiedImage(path, { ...image, cmdline: uki, ...ownKeys });
  }
}

function writeFiles(directory: string, files: ReadonlyMap<string, string>): void {
  rmSync(directory, { recursive: true, force: true });
  for (const [name, text] of files) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
}
