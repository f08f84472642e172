import { expect, test } from "vitest";
import { StateError } from "../../shared/error.ts";
import type { ImageReference } from "./reference.ts";
import { type ImageUser, makeSources } from "./repair-source.ts";
import type { ImageSource, ResolvedImage } from "./resolved-image.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const registry = (image: string): ImageReference => ({ transport: "registry", image });
const oci = (image: string): ImageReference => ({ transport: "oci", image });
const user = (reference: ImageReference | null): ImageUser => ({
  label: "x",
  manifestDigest: DIGEST,
  reference,
  deploymentId: null,
});
const FOUND = { manifestDigest: DIGEST } as ResolvedImage;

/** Places that answer are those whose name does not begin with "bad". */
function open(opened: string[]) {
  return ({ image }: ImageReference): ImageSource => {
    opened.push(image);
    return {
      name: image,
      resolve: async () => {
        if (image.startsWith("bad")) throw new StateError("missing", `${image} is gone`);
        return FOUND;
      },
      openLayer: () => {
        throw new Error("not asked for");
      },
    };
  };
}

test.each([
  ["quay.io/x/y", `quay.io/x/y@${DIGEST}`],
  ["quay.io/x/y:latest", `quay.io/x/y@${DIGEST}`],
  ["host:5000/x", `host:5000/x@${DIGEST}`],
  ["host:5000/x:1.2", `host:5000/x@${DIGEST}`],
  [`quay.io/x/y:1@sha256:${"cd".repeat(32)}`, `quay.io/x/y@${DIGEST}`],
])("a registry is asked for the digest, not for %s", (image, expected) => {
  const sources = makeSources({ source: null, open: open([]) });
  expect(sources.list([user(registry(image))], DIGEST)).toEqual([expected]);
});

test("each place once; what the caller names is the only one", () => {
  const users = [user(oci("/a:tag")), user(null), user(oci("/b")), user(oci("/a:tag"))];
  const prefix = "ostree-unverified-image:oci:";
  const own = makeSources({ source: null, open: open([]) });
  expect(own.list(users, DIGEST)).toEqual([`${prefix}/a:tag`, `${prefix}/b`]);
  const named = makeSources({ source: oci("/c"), open: open([]) });
  expect(named.list(users, DIGEST)).toEqual([`${prefix}/c`]);
  expect(named.list([], DIGEST)).toEqual([`${prefix}/c`]);
});

test("places are tried in order, opened once, and all their failures told", async () => {
  const opened: string[] = [];
  const sources = makeSources({ source: null, open: open(opened) });
  const users = [user(oci("bad1")), user(oci("good")), user(oci("other"))];
  for (const _ of [1, 2]) {
    expect(await sources.attempt(users, DIGEST, async ({ source }) => source.name)).toBe("good");
  }
  expect(opened).toEqual(["bad1", "good"]);
  const refuse = async () => {
    throw new StateError("conflict", "no");
  };
  await expect(sources.attempt(users.slice(0, 2), DIGEST, refuse)).rejects.toThrow(
    'Nothing was fetched: "ostree-unverified-image:oci:bad1": bad1 is gone; "ostree-unverified-image:oci:good": no',
  );
  await expect(sources.attempt([], DIGEST, refuse)).rejects.toThrow(
    `Nobody knows where image ${DIGEST} came from; name a place with "--source"`,
  );
});

test("a mistake in the code is no failure of a place", async () => {
  const sources = makeSources({ source: oci("good"), open: open([]) });
  const mistake = async () => {
    throw new TypeError("undefined is not a function");
  };
  await expect(sources.attempt([], DIGEST, mistake)).rejects.toThrow(TypeError);
});
