// Names of what an entry starts: kernel directories `bootc_composefs-<id>/` and unified kernels
// `bootc_composefs-<id>.efi` (bootc.md 4.4). Before bootc 1.16.0 both were the bare id (4.18): read
// everywhere, never written.

export const ARTEFACT_PREFIX = "bootc_composefs-";

/** Digests name files and appear on command lines: 64 or 128 lower-case hex digits. */
export function isDeploymentId(text: string): boolean {
  return /^(?:[0-9a-f]{64}|[0-9a-f]{128})$/.test(text);
}

/** Whether a directory or unified kernel of this name (without ".efi") is ours. */
export function isArtefactName(name: string): boolean {
  return name.startsWith(ARTEFACT_PREFIX) || isDeploymentId(name);
}

/** The deployment that brought an artefact; null when its name tells none. */
export function artefactOwner(name: string): string | null {
  const id = name.startsWith(ARTEFACT_PREFIX) ? name.slice(ARTEFACT_PREFIX.length) : name;
  return isDeploymentId(id) ? id : null;
}

/** All ids in a text that could not be understood: as whole words, so longer digit strings are none. */
export function findIds(text: string): readonly string[] {
  const words = text.match(/(?<![0-9a-f])(?:[0-9a-f]{128}|[0-9a-f]{64})(?![0-9a-f])/g);
  return [...new Set(words ?? [])];
}
