// A dump of a tree that no machine has: packages of 16 files each with an operating system's mix of
// external files, small contents, symlinks, labels and times. The same text for the same number.

const LABELS = ["bin_t", "lib_t", "usr_t", "etc_t", "modules_object_t"];
const FILES_PER_PACKAGE = 16;
const PACKAGES_PER_DIRECTORY = 64;
const BATCH_CHARS = 1 << 20;

/** Text of a dump with exactly `entries` lines, in pieces. */
export function* formatSyntheticDump(entries: number): Generator<string> {
  let batch = "";
  for (const line of makeLines(entries)) {
    batch += `${line}\n`;
    if (batch.length < BATCH_CHARS) continue;
    yield batch;
    batch = "";
  }
  yield batch;
}

function* makeLines(entries: number): Generator<string> {
  const random = createRandom();
  yield directoryLine(random, "/", 0);
  for (let count = 1, index = 0; count < entries; index++) {
    const top = `/tree-${Math.floor(index / PACKAGES_PER_DIRECTORY)}`;
    if (index % PACKAGES_PER_DIRECTORY === 0) {
      yield directoryLine(random, top, index);
      count += 1;
    }
    if (count === entries) return;
    const path = `${top}/package-${index}.d`;
    yield directoryLine(random, path, index);
    count += 1;
    for (let file = 0; file < FILES_PER_PACKAGE && count < entries; file++, count++) {
      yield fileLine(random, path, index, file);
    }
  }
}

type Random = (below: number) => number;

/** Numerical Recipes' generator; its upper bits are good enough here. */
function createRandom(): Random {
  let state = 12345;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const label = (index: number) =>
  `security.selinux=system_u:object_r:${LABELS[index % LABELS.length]}:s0\\x00`;
const time = (random: Random) => `${1_700_000_000 + random(10_000_000)}.${random(1_000_000_000)}`;

function directoryLine(random: Random, path: string, index: number): string {
  return `${path} 4096 40755 2 0 0 0 ${time(random)} - - - ${label(index)}`;
}

function fileLine(random: Random, path: string, index: number, file: number): string {
  const kind = random(20);
  if (kind === 0) {
    const target = `libthing.so.${file}`;
    const numbers = `${target.length} 120777 1 0 0 0 ${time(random)}`;
    return `${path}/link-${file}.so ${numbers} ${target} - - ${label(index)}`;
  }
  if (kind < 4) {
    const numbers = `15 100644 1 0 0 0 ${time(random)}`;
    const content = `key\\x20=\\x20${hex(random, 1)}\\n`;
    return `${path}/small-${file}.conf ${numbers} - ${content} - ${label(index)}`;
  }
  const digest = hex(random, 8);
  const numbers = `${65 + random(1_000_000)} 100644 1 0 0 0 ${time(random)}`;
  const data = `${digest.slice(0, 2)}/${digest.slice(2)} - ${digest}`;
  return `${path}/file-number-${file}.so ${numbers} ${data} ${label(index)}`;
}

function hex(random: Random, words: number): string {
  let text = "";
  for (let i = 0; i < words; i++)
    text += random(2 ** 32)
      .toString(16)
      .padStart(8, "0");
  return text;
}
