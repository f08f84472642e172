// Who watches a story: the demo prints it, the tests keep quiet.

export interface Narrator {
  chapter(title: string): void;
  say(text: string): void;
  /** A command about to run in the machine. */
  command(command: string): void;
  /** What it printed, and how long it took. */
  answer(output: string, tookMs: number): void;
  /** Progress of set-up work. */
  progress(line: string): void;
}

export const silentNarrator: Narrator = {
  chapter: () => {},
  say: () => {},
  command: () => {},
  answer: () => {},
  progress: () => {},
};

/** Prints to a stream with the time since the start in front of chapters. */
export function printingNarrator(write: (text: string) => void): Narrator {
  const started = performance.now();
  const clock = () => {
    const seconds = Math.floor((performance.now() - started) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  };
  return {
    chapter: (title) => write(`\n== [${clock()}] ${title}\n`),
    say: (text) => write(`   ${text}\n`),
    command: (command) => write(` # ${command}\n`),
    answer: (output, tookMs) => {
      for (const line of output.split("\n")) if (line.trim() !== "") write(`   | ${line}\n`);
      if (tookMs > 5000) write(`   (${(tookMs / 1000).toFixed(0)} s)\n`);
    },
    progress: (line) => write(`   . [${clock()}] ${line}\n`),
  };
}
