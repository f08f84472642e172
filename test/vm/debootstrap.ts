// Makes Debian trees with mmdebstrap from the machine's own mirror, and installs the few host
// packages the rig needs. Invariants: trees carry no documentation, locales or package lists; the
// mirror's name stays out of the caller's recipe, so cache keys do not depend on it.

import { existsSync } from "node:fs";
import { findAptMirror } from "../support/apt-mirror.ts";
import { type Progress, run } from "../support/run.ts";

export type DebootstrapOptions = {
  readonly root: string;
  readonly variant: "apt" | "essential";
  /** The first one is the tree's release; security updates are taken for it. */
  readonly suites: readonly string[];
  readonly packages: readonly string[];
  readonly setupHooks?: readonly string[];
  readonly customizeHooks?: readonly string[];
  readonly dpkgOptions?: readonly string[];
  readonly onLine?: Progress | undefined;
};

export const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

const excluded = [
  "doc/*",
  "man/*",
  "locale/*",
  "info/*",
  "lintian/*",
  "bash-completion/*",
  "bug/*",
];
export const leanDpkgOptions = [
  ...excluded.map((path) => `path-exclude=/usr/share/${path}`),
  "path-include=/usr/share/doc/*/copyright",
  "force-unsafe-io",
];

const hostPrograms = {
  mmdebstrap: "mmdebstrap",
  "mkfs.ext4": "e2fsprogs",
  unshare: "util-linux",
} as const;

/** Fills `root` with a Debian tree. */
export async function debootstrap(options: DebootstrapOptions): Promise<void> {
  await ensureHostPackages(options.onLine);
  const mirror = await findAptMirror();
  const [release] = options.suites;
  const sources = options.suites.map((suite) => `deb ${mirror.main} ${suite} main`);
  if (mirror.security !== undefined) {
    sources.push(`deb ${mirror.security} ${release}-security main`);
  }
  await run(
    [
      "mmdebstrap",
      "--mode=root",
      "--format=directory",
      `--variant=${options.variant}`,
      `--keyring=${DEBIAN_KEYRING}`,
      `--include=${options.packages.join(",")}`,
      '--aptopt=APT::Install-Recommends "false"',
      ...mirror.options.map((option) => `--aptopt=${option.replace(/;$/, "")}`),
      ...[...leanDpkgOptions, ...(options.dpkgOptions ?? [])].map((text) => `--dpkgopt=${text}`),
      ...(options.setupHooks ?? []).map((hook) => `--setup-hook=${hook}`),
      ...(options.customizeHooks ?? []).map((hook) => `--customize-hook=${hook}`),
      release!,
      options.root,
      ...sources,
    ],
    { onLine: options.onLine },
  );
}

/** Installs what the build machine itself lacks. */
export async function ensureHostPackages(onLine?: Progress): Promise<void> {
  const dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
  const missing: string[] = Object.entries(hostPrograms)
    .filter(([program]) => !dirs.some((dir) => existsSync(`${dir}/${program}`)))
    .map(([, name]) => name);
  if (!existsSync(DEBIAN_KEYRING)) missing.push("debian-archive-keyring");
  if (missing.length === 0) return;
  onLine?.(`installing on this machine: ${missing.join(" ")}`);
  await run(["apt-get", "update"], { onLine });
  await run(["apt-get", "install", "-y", "--no-install-recommends", ...missing], { onLine });
}
