// Choosing one image of a multi-platform index.

import { FormatError, UnsupportedError } from "../../error.ts";
import type { Descriptor, ImageIndex } from "./manifest.ts";

/** Node's names to GOARCH names. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: "amd64",
  arm64: "arm64",
  ia32: "386",
  arm: "arm",
  ppc64: "ppc64le",
  s390x: "s390x",
  riscv64: "riscv64",
  loong64: "loong64",
};

/** GOARCH name of this machine. */
export function hostArchitecture(): string {
  return ARCHITECTURES[process.arch] ?? process.arch;
}

/** The manifest for linux on `architecture`; one without a platform counts only when it is alone. */
export function selectPlatform(index: ImageIndex, architecture: string, what: string): Descriptor {
  const { manifests } = index;
  const match = manifests.find(
    ({ platform }) => platform?.os === "linux" && platform.architecture === architecture,
  );
  if (match !== undefined) return match;
  const [first] = manifests;
  if (first === undefined) throw new FormatError("not-found", `${what} lists no images`);
  if (manifests.length === 1 && first.platform === undefined) return first;
  const offered = manifests.flatMap(({ platform }) =>
    platform === undefined || platform.os === "unknown"
      ? []
      : [`${platform.os}/${platform.architecture}`],
  );
  throw new UnsupportedError(
    "architecture",
    `${what} has no image for linux/${architecture}, only for ${offered.join(", ") || "none"}`,
  );
}
