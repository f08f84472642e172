// The kernel of an image that is in the repository: in the image that boots when it is below /usr, else in the plain
// one, which still has its /boot.

import { FormatError, IntegrityError, StateError, SyscallError } from "../../shared/error.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { type BootKernel, findBootKernel } from "../image/boot-kernel.ts";
import { linkedImage, readNamedConfig } from "../image/named-image.ts";
import { readImageTree } from "./image-tree.ts";

/**
 * Null when none of the images has one, or it cannot be read. `tree` is the image that boots; beside a unified kernel
 * it may have a plain one that it does not boot.
 */
export function findStoredKernel(
  repo: Repository,
  tree: DirectoryNode,
  manifestDigests: readonly string[],
  bootType: BootKernel["kind"],
): BootKernel | null {
  const below = () => tryRead(() => findBootKernel(tree));
  const plain = () =>
    manifestDigests.reduce<BootKernel | null>(
      (found, digest) => found ?? readStoredKernel(repo, digest),
      null,
    );
  return bootType === "uki" ? (plain() ?? below()) : (below() ?? plain());
}

/** Of the plain image that was made of this manifest. */
export function readStoredKernel(repo: Repository, manifestDigest: string): BootKernel | null {
  return tryRead(() => {
    const config = readNamedConfig(repo, `@${manifestDigest}`);
    const id = linkedImage(repo, config, { bootable: false });
    return id === null ? null : findBootKernel(readImageTree(repo, id));
  });
}

function tryRead(read: () => BootKernel | null): BootKernel | null {
  try {
    return read();
  } catch (error) {
    const isExpected = [FormatError, IntegrityError, StateError, SyscallError].some(
      (kind) => error instanceof kind,
    );
    if (isExpected) return null;
    throw error;
  }
}
