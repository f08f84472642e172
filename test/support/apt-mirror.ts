// Where this machine gets Debian packages from, read from its own apt set-up at run time.
// Invariants: no host name is written in this repository; repositories that are not Debian's own
// are ignored; parsing is pure (text in, entries out) and only `findAptMirror` reads files.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { run } from "./run.ts";

export type AptEntry = {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
};

export type AptMirror = {
  readonly main: string;
  readonly security: string | undefined;
  /** Settings of this machine that the mirror may need (proxy, a frozen archive's dates). */
  readonly options: readonly string[];
};

const release = "(?:bookworm|trixie|forky|duke|sid|oldstable|stable|testing|unstable)";
const mainSuite = new RegExp(`^${release}$`);
const securitySuite = new RegExp(`^${release}-security$`);

/** Stanzas of a `.sources` file. */
export function parseDeb822(text: string): AptEntry[] {
  const withoutComments = text.replace(/^#.*\n?/gm, "");
  return withoutComments.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const [, name, value] of stanza.matchAll(/^([\w-]+):((?:.*)(?:\n[ \t].*)*)/gm)) {
      fields.set(name!.toLowerCase(), value!.trim());
    }
    const words = (name: string) => (fields.get(name) ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || fields.get("enabled") === "no") return [];
    return [
      {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signedBy: fields.get("signed-by"),
      },
    ];
  });
}

/** Lines of a `.list` file. */
export function parseOneLine(text: string): AptEntry[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    if (!match) return [];
    return [
      {
        uris: [match[2]!],
        suites: [match[3]!],
        components: match[4]!.trim().split(/\s+/),
        signedBy: /signed-by=(\S+)/.exec(match[1] ?? "")?.[1],
      },
    ];
  });
}

/** The first URI that serves Debian's main (or security) archive. */
export function chooseUri(entries: readonly AptEntry[], suite: RegExp): string | undefined {
  const debian = entries.filter(
    (entry) =>
      entry.suites.some((name) => suite.test(name)) &&
      entry.components.includes("main") &&
      // A foreign repository with Debian's suite names carries its own key.
      (entry.signedBy === undefined || /debian-archive|BEGIN PGP/.test(entry.signedBy)),
  );
  return debian.flatMap((entry) => entry.uris).find((uri) => /^(https?|mirror|file):?/.test(uri));
}

/** Reads this machine's apt set-up; throws when it names no Debian mirror. */
export async function findAptMirror(): Promise<AptMirror> {
  const entries = readAptEntries();
  const main = chooseUri(entries, mainSuite);
  if (main === undefined) {
    throw new Error("Cannot find a Debian mirror in /etc/apt: add a line for it to sources.list");
  }
  const security = chooseUri(entries, securitySuite);
  return {
    main: resolveMirrorList(main),
    security: security === undefined ? undefined : resolveMirrorList(security),
    options: await aptOptions(),
  };
}

function readAptEntries(): AptEntry[] {
  const dir = "/etc/apt/sources.list.d";
  const names = existsSync(dir) ? readdirSync(dir).sort() : [];
  const files = ["/etc/apt/sources.list", ...names.map((name) => `${dir}/${name}`)];
  return files.filter(existsSync).flatMap((file) => {
    const text =
      file.endsWith(".sources") || file.endsWith(".list") ? readFileSync(file, "utf8") : "";
    return file.endsWith(".sources") ? parseDeb822(text) : parseOneLine(text);
  });
}

/** Debian's cloud images name a file with mirrors instead of a mirror. */
function resolveMirrorList(uri: string): string {
  const match = /^mirror\+file:(?:\/\/)?(\/.*)$/.exec(uri);
  if (!match) return uri;
  const line = readFileSync(match[1]!, "utf8")
    .split("\n")
    .find((text) => /^\s*\w+:/.test(text));
  if (line === undefined) throw new Error(`Cannot find a Debian mirror: ${match[1]} names none`);
  return line.trim().split(/\s+/)[0]!;
}

async function aptOptions(): Promise<string[]> {
  const dump = await run(["apt-config", "dump"]);
  const wanted = /^Acquire::(Check-Valid-Until|Check-Date|https?::Proxy)\b.*;$/;
  return dump.split("\n").filter((line) => wanted.test(line));
}
