// Where a repair may fetch an image from: the place the caller names, else where its users got it.
//
// A place counts by what it delivers: every blob is asked for by digest and checked while it is read. That
// it holds another image by now is only fatal for the manifest, which is found by name.

import { describeError, isErrno, StateError } from "../../shared/error.ts";
import { displayReference, type ImageReference } from "./reference.ts";
import type { ImageSource, ResolvedImage } from "./resolved-image.ts";

/** Somebody for whom an image is kept. */
export interface ImageUser {
  /** For messages: `deployment 0f3a…`, `tag "x"`. */
  readonly label: string;
  readonly manifestDigest: string | null;
  /** Where it came from. */
  readonly reference: ImageReference | null;
  readonly deploymentId: string | null;
}

export interface SourceOptions {
  /** Instead of the users' own. */
  readonly source: ImageReference | null;
  readonly open: (reference: ImageReference) => ImageSource;
  readonly signal?: AbortSignal | undefined;
}

/** One place that answered. */
export interface OpenedSource {
  readonly source: ImageSource;
  /** What it holds under its name, which may be another image than the one wanted. */
  readonly found: ResolvedImage;
}

/** Disposing of it closes what was opened. */
export interface Sources extends AsyncDisposable {
  /** Places that may have the image, for messages. */
  readonly list: (users: readonly ImageUser[], manifestDigest: string) => readonly string[];
  /** `action` with one place after the other until it succeeds; StateError with every failure. */
  readonly attempt: <T>(
    users: readonly ImageUser[],
    manifestDigest: string,
    action: (opened: OpenedSource) => Promise<T>,
  ) => Promise<T>;
}

export function makeSources(options: SourceOptions): Sources {
  const opened = new Map<string, Promise<OpenedSource>>();
  const made: ImageSource[] = [];
  const open = (reference: ImageReference) => {
    const key = displayReference(reference);
    const known = opened.get(key);
    if (known !== undefined) return known;
    const source = Promise.resolve().then(async () => {
      const source = options.open(reference);
      made.push(source);
      return { source, found: await source.resolve() };
    });
    opened.set(key, source);
    return source;
  };
  const candidates = (users: readonly ImageUser[], manifestDigest: string) => {
    const own = users.map(({ reference }) => reference);
    const references = options.source === null ? own : [options.source];
    const pinned = references
      .filter((reference) => reference !== null)
      .map((reference) => pinReference(reference, manifestDigest));
    return [...new Map(pinned.map((each) => [displayReference(each), each])).values()];
  };
  return {
    list: (users, digest) => candidates(users, digest).map(displayReference),
    attempt: async (users, digest, action) => {
      const problems: string[] = [];
      for (const reference of candidates(users, digest)) {
        try {
          return await action(await open(reference));
        } catch (error) {
          options.signal?.throwIfAborted();
          if (!isExpected(error)) throw error;
          problems.push(`"${displayReference(reference)}": ${describeError(error)}`);
        }
      }
      throw noSource(problems, digest);
    },
    [Symbol.asyncDispose]: async () => {
      for (const each of made) await each[Symbol.asyncDispose]?.();
    },
  };
}

function noSource(problems: readonly string[], manifestDigest: string): StateError {
  if (problems.length > 0) {
    return new StateError("missing", `Nothing was fetched: ${problems.join("; ")}`);
  }
  return new StateError(
    "missing",
    `Nobody knows where image ${manifestDigest} came from; name a place with "--source"`,
  );
}

/** Names in a registry move on; the image that is wanted is there by its digest. */
function pinReference(reference: ImageReference, manifestDigest: string): ImageReference {
  if (reference.transport !== "registry") return reference;
  const [name = ""] = reference.image.split("@");
  const colon = name.lastIndexOf(":");
  const bare = colon > name.lastIndexOf("/") ? name.slice(0, colon) : name;
  return { ...reference, image: `${bare}@${manifestDigest}` };
}

/** Whatever the world can cause (classes of error.ts, errors of files), not a mistake in the code. */
export function isExpected(error: unknown): error is Error {
  const code = (error as { code?: unknown } | null)?.code;
  return error instanceof Error && typeof code === "string" && !isErrno(error, "ERR_ASSERTION");
}
