// Scratch machines whose images are signed: images with a trust directory and statements, and starts that
// prepare-root's own judgement allows or refuses.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DEFAULT_OPTIONS } from "../../initrd/options.ts";
import { judgeStart, readInitramfsTrust } from "../../initrd/trust.ts";
import { makeTrustRecord, writeTrustRecord } from "../../initrd/trust-record.ts";
import type { ImageStatement } from "../../shared/format/trust/statement.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { STATEMENT_ANNOTATION } from "../../updater/image/statement-source.ts";
import { type ScratchImage, writeScratchImage } from "./scratch-image.ts";
import { assess, type RunningMachine, type ScratchMachine } from "./scratch-machine.ts";
import { sign, trustKey } from "./trust-place.ts";

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
}

const TRUST = "usr/lib/bootc/trust";

/** Files below the trust directory. */
function trustFiles({ conf, keys = [], revoked = [] }: TrustedImage): Map<string, string> {
  return new Map([
    ...keys.map((name): [string, string] => [`keys.d/${name}.pub`, trustKey(name).pub]),
    ...(revoked.length === 0 ? [] : [["revoked.d/list", revoked.join("\n")] as const]),
    ...(conf === undefined ? [] : [["trust.conf", `[image]\n${conf.join("\n")}\n`] as const]),
  ]);
}

/** Images and starts of one machine. */
export class TrustedImages {
  readonly #machine: ScratchMachine;
  /** The trust directory of each image, by deployment. */
  readonly #files = new Map<string, Map<string, string>>();

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
    writeScratchImage(path, plain);
    const id = await this.#identify(path);
    this.#files.set(id, files);
    const { signers, statement } = image;
    if (signers === undefined) return id;
    const text = sign(
      id,
      signers.map((name) => trustKey(name)),
      statement,
    );
    const annotations = { ...image.annotations, [STATEMENT_ANNOTATION]: text };
    writeScratchImage(path, { ...plain, annotations });
    return id;
  }

  /** As `ScratchMachine.boot`, with prepare-root's word: throws what it would refuse with. */
  boot(position = 0, good = true): RunningMachine {
    const machine = this.#machine;
    const running = machine.boot(position, false);
    const { id } = running.booted;
    const trust = join(machine.root, TRUST);
    rmSync(trust, { recursive: true, force: true });
    for (const [name, text] of this.#files.get(id) ?? []) {
      mkdirSync(dirname(join(trust, name)), { recursive: true });
      writeFileSync(join(trust, name), text);
    }
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

  async #identify(path: string): Promise<string> {
    const directory = join(this.#machine.directory, "identify");
    mkdirSync(directory, { recursive: true });
    using repo = ensureRepository(null, join(directory, "composefs"), {
      algorithm: "sha512",
      secure: false,
    });
    const pulled = await pullImage(repo, openSource(makeImageReference("oci", path)));
    return (await makeBootImage(repo, pulled)).deploymentId;
  }
}
