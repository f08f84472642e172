// What the mounts of this project look like on a kernel of a given release: in which Linux each feature
// came, for the tests to compare with what the programs found out by asking (they never look at
// versions, as distributions backport; Debian's kernels do not).

export type KernelForm = {
  /** 6.12: EROFS straight from the file, else through a loop device. */
  readonly erofs: "file" | "loop";
  /** 6.7: lowerdir+ and datadir+; 6.5: lower::data; before: lower:data. */
  readonly layers: "append" | "data-only" | "plain";
  /** 6.6: overlayfs checks fs-verity. */
  readonly verity: boolean;
  /** 6.15: layers need not be attached. */
  readonly detachedTrees: boolean;
};

/** `release` as `uname -r` says it. */
export function expectedForm(release: string): KernelForm {
  const [major = 0, minor = 0] = release.split(".", 2).map(Number);
  const isSince = (sinceMajor: number, sinceMinor: number) =>
    major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
  return {
    erofs: isSince(6, 12) ? "file" : "loop",
    layers: isSince(6, 7) ? "append" : isSince(6, 5) ? "data-only" : "plain",
    verity: isSince(6, 6),
    detachedTrees: isSince(6, 15),
  };
}
