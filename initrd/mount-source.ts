// The device behind a mount, from the mount table (proc(5), /proc/<pid>/mountinfo).

/** The source of the last mount on `path` when it is a path itself. */
export function findMountSource(mountinfo: string, path: string): string | null {
  const fields = mountinfo
    .split("\n")
    .map((line) => line.split(" "))
    .findLast((line) => line[4] === path);
  const source = fields?.[fields.indexOf("-") + 2];
  return source?.startsWith("/") ? source : null;
}
