// The rules of the house that are not about behaviour: who may import whom, sizes, places, documents.
//
// A rule that can be proved from what esbuild really bundles is proved from that; the others look at
// the syntax tree of every file. Limits with old offenders have a ratchet, test/tidy-ratchet.json:
// its numbers may only shrink, and an entry that is no longer needed has to go.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type Bundle, bundle, WORKERS } from "../scripts/build/bundle.ts";
import { renderDocs } from "../scripts/docs.ts";
import {
  listFunctions,
  listImports,
  listProjectFiles,
  listUses,
  ROOT,
  readSource,
  type SourceFile,
} from "./support/source-tree.ts";

const MAX_FILE_LINES = 500;
const MAX_FUNCTION_LINES = 70;
/** What the initramfs half may weigh, minified: 108 kB for composefs, 43 kB for ostree (0008), 32 kB for trust (0019). */
const INITRD_BUNDLE_BUDGET_BYTES = 190_000;

const paths = listProjectFiles();
const sources = paths.filter((path) => path.endsWith(".ts")).map(readSource);
const isTest = (path: string) => /^test\/|\.test\.ts$/.test(path);
const product = sources.filter(
  ({ path }) => !isTest(path) && /^(shared|initrd|updater)\//.test(path),
);

/** Folder -> folders it may import from, besides itself and shared/error.ts. The longest name counts. */
const SHARED = [
  "shared/abortable.ts",
  ...["shared/bytes", "shared/format", "shared/sys", "shared/txn"],
  ...["shared/store", "shared/ostree", "shared/trust"],
];
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  "shared/abortable.ts": [],
  "shared/error.ts": [],
  "shared/log.ts": [],
  "shared/bytes": [],
  "shared/format": ["shared/bytes"],
  "shared/sys": ["shared/bytes", "shared/format"],
  "shared/txn": ["shared/bytes", "shared/format", "shared/sys"],
  "shared/store": ["shared/bytes", "shared/format", "shared/sys", "shared/txn"],
  "shared/ostree": ["shared/bytes", "shared/format", "shared/sys", "shared/txn"],
  "shared/trust": ["shared/bytes", "shared/format", "shared/sys", "shared/txn"],
  initrd: SHARED,
  "updater/journal": SHARED,
  "updater/registry": [...SHARED, "package.json"],
  "updater/image": [...SHARED, "updater/registry"],
  "updater/boot": SHARED,
  "updater/trust": [...SHARED, "updater/boot", "updater/image"],
  "updater/deploy": [
    ...SHARED,
    "updater/boot",
    "updater/image",
    "updater/journal",
    "updater/trust",
  ],
  "updater/install": [
    ...SHARED,
    "updater/boot",
    "updater/deploy",
    "updater/image",
    "updater/trust",
  ],
  "updater/composefs": SHARED,
  "updater/ostree": [...SHARED, "updater/boot", "updater/image"],
  "updater/container": [
    ...SHARED,
    "updater/boot",
    "updater/composefs",
    "updater/image",
    "updater/trust",
  ],
  "updater/spec": [
    "shared/bytes",
    "shared/format",
    "updater/deploy",
    "updater/image",
    "updater/ostree",
    "updater/trust",
  ],
  "updater/output": [
    "shared/format",
    "updater/deploy",
    "updater/image",
    "updater/spec",
    "updater/trust",
  ],
  "updater/cli": [...SHARED, "updater", "package.json"],
  "main.ts": ["initrd/main.ts", "updater/cli/program.ts", "updater/cli/tools.ts"],
};

/** Package -> the only places that may import it. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "bun:ffi": ["shared/sys/libc.ts"],
  undici: [], // Bun puts a shim in its place; the real one is undici/index.js
  "undici/index.js": ["updater/registry/http.ts"],
  commander: ["updater/cli/"],
  "@commander-js/extra-typings": ["updater/cli/", "scripts/docs"],
  yaml: ["updater/output/", "updater/image/policy/registries-d.ts"],
  "tar-stream": [],
};

const isUnder = (path: string, folder: string) => path === folder || path.startsWith(`${folder}/`);

function layerOf(path: string): string | undefined {
  return Object.keys(LAYERS)
    .filter((folder) => isUnder(path, folder))
    .sort((a, b) => b.length - a.length)[0];
}

describe("imports", () => {
  test("every file of the product belongs to a folder with rules", () => {
    expect(product.map(({ path }) => path).filter((path) => layerOf(path) === undefined)).toEqual(
      [],
    );
  });

  test("go one way between the folders", () => {
    const wrong = [...product, readSource("main.ts")].flatMap((file) => {
      const layer = layerOf(file.path) ?? "";
      const allowed = [layer, "shared/error.ts", ...(LAYERS[layer] ?? [])];
      return listImports(file)
        .filter(({ target }) => target !== null && !allowed.some((name) => isUnder(target, name)))
        .map(({ target }) => `${file.path} imports ${target}`);
    });
    expect(wrong).toEqual([]);
  });

  test("packages are used in their places only", () => {
    const wrong = sources
      .filter(({ path }) => !isTest(path))
      .flatMap((file) =>
        listImports(file)
          .filter(({ specifier }) => {
            const places = PACKAGES[specifier];
            return places !== undefined && !places.some((place) => file.path.startsWith(place));
          })
          .map(({ specifier }) => `${file.path} imports ${specifier}`),
      );
    expect(wrong).toEqual([]);
  });

  test("formats reach no file, process or network", () => {
    const wrong = product
      .filter(({ path }) => path.startsWith("shared/format/") || path.startsWith("shared/bytes/"))
      .flatMap(listImports)
      .filter(({ specifier }) => /^(node:)?(fs|child_process|net|http|https|os)\b/.test(specifier));
    expect(wrong).toEqual([]);
  });
});

describe("bundles", () => {
  const bundles = new Map<string, Bundle>();
  beforeAll(async () => {
    for (const name of ["main", "initrd", "tools", "updater", ...WORKERS] as const)
      bundles.set(name, await bundle(name));
  }, 60_000);
  const inputsOf = (name: string) => Object.keys(bundles.get(name)!.metafile.inputs);

  test("main has nothing but itself", () => {
    expect(inputsOf("main")).toEqual(["main.ts"]);
  });

  test("initrd has initrd, shared and @iarna/toml", () => {
    const allowed = /^(initrd|shared)\/|^node_modules\/@iarna\/toml\//;
    expect(inputsOf("initrd").filter((path) => !allowed.test(path))).toEqual([]);
    expect(inputsOf("initrd")).toContain("initrd/main.ts");
  });

  test("initrd needs few modules of the runtime", () => {
    const [output] = Object.values(bundles.get("initrd")!.metafile.outputs);
    const external = new Set(output!.imports.map(({ path }) => path));
    // node:fs is always loaded, and writes the last words when system calls do not work.
    const allowed = ["bun:ffi", "node:fs", "node:path"];
    expect([...external].filter((path) => !allowed.includes(path))).toEqual([]);
  });

  test("initrd keeps to its budget", () => {
    expect(bundles.get("initrd")!.code.length).toBeLessThan(INITRD_BUNDLE_BUDGET_BYTES);
  });

  test("tools have neither packages nor the rest of the updater", () => {
    const allowed = /^shared\/|^updater\/composefs\/|^updater\/cli\//;
    expect(inputsOf("tools").filter((path) => !allowed.test(path))).toEqual([]);
    expect(inputsOf("tools")).toContain("updater/cli/tools.ts");
  });

  test("hash-worker has little, and only what tools have", () => {
    const allowed = inputsOf("tools");
    const own = "updater/composefs/hash-worker.ts";
    expect(inputsOf("hash-worker").filter((path) => !allowed.includes(path))).toEqual([own]);
    expect(bundles.get("hash-worker")!.code.length).toBeLessThan(60_000);
  });

  test.each(["object-worker", "decode-worker"])("%s has little that the updater lacks", (name) => {
    const allowed = inputsOf("updater");
    const own = `updater/image/${name}.ts`;
    expect(inputsOf(name).filter((path) => !allowed.includes(path))).toEqual([own]);
    expect(bundles.get(name)!.code.length).toBeLessThan(60_000);
  });

  test("functions of short-lived programs are kept from the last compiler", () => {
    for (const name of ["tools", ...WORKERS]) {
      const code = Buffer.from(bundles.get(name)!.code).toString();
      expect(code.slice(code.lastIndexOf("for("))).toMatch(
        /^for\(const \$each of ?\[\w+,.+\$noFTL\(/,
      );
    }
  });

  test("updater has nothing of initrd", () => {
    expect(inputsOf("updater").filter((path) => path.startsWith("initrd/"))).toEqual([]);
    expect(inputsOf("updater")).toContain("updater/cli/program.ts");
  });

  test("are the same when made again", async () => {
    const again = await bundle("updater");
    expect(Buffer.from(again.code).equals(bundles.get("updater")!.code)).toBe(true);
    expect(Buffer.from(again.code).includes(ROOT)).toBe(false);
  }, 60_000);
});

describe("places", () => {
  const outside = (files: readonly SourceFile[], name: string) =>
    files
      .filter(({ path }) => path !== "updater/cli/program.ts")
      .flatMap((file) => listUses(file, name));

  test.each([["console"], ["process.exit"], ["process.exitCode"], ["process.stdout.write"]])(
    "the library does not use %s",
    (name) => {
      expect(outside(product, name)).toEqual([]);
    },
  );

  test("initrd is synchronous", () => {
    const asynchronous = product
      .filter(({ path }) => path.startsWith("initrd/"))
      .filter(({ text }) =>
        /\b(async|await)\b/.test(text.replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, "")),
      )
      .map(({ path }) => path);
    expect(asynchronous).toEqual([]);
  });
});

/** x.test.ts or x.kind.test.ts beside x.ts, or a test that imports from its own folder. */
function isBesideCode(file: SourceFile): boolean {
  if (!file.path.endsWith(".test.ts")) return false;
  const sibling = file.path.replace(/(\.\w+)?\.test\.ts$/, ".ts");
  return (
    paths.includes(sibling) || listImports(file).some(({ specifier }) => specifier.startsWith("./"))
  );
}

describe("files", () => {
  const ratchet: Readonly<Record<"files" | "functions", Record<string, number>>> = JSON.parse(
    readFileSync(join(ROOT, "test/tidy-ratchet.json"), "utf8"),
  );

  test(`have at most ${MAX_FILE_LINES} lines`, () => {
    const found = sources.map(({ path, text }) => [path, text.split("\n").length - 1] as const);
    expect(Object.fromEntries(found.filter(([, n]) => n > MAX_FILE_LINES))).toEqual(ratchet.files);
  });

  test(`have functions of at most ${MAX_FUNCTION_LINES} lines`, () => {
    const found = sources
      .flatMap(listFunctions)
      .filter(({ lines }) => lines > MAX_FUNCTION_LINES)
      .map(({ path, name, lines }) => [`${path} ${name}`, lines] as const);
    expect(Object.fromEntries(found)).toEqual(ratchet.functions);
  });

  test("begin with a comment that says what they are for", () => {
    const bare = sources.filter(
      (file) => !isBesideCode(file) && !/^(#!.*\n)?\/\/ \S/.test(file.text),
    );
    expect(bare.map(({ path }) => path)).toEqual([]);
  });

  test("have names in kebab-case that say something", () => {
    const vague = /^(index|utils?|helpers?|common|misc|types)$/;
    const wrong = sources.filter(({ path }) => {
      const stem = basename(path).replace(/(\.\w+)*\.ts$/, "");
      return !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(stem) || vague.test(stem);
    });
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  test("unit tests lie beside what they test", () => {
    const lost = sources
      .filter(({ path }) => path.endsWith(".test.ts") && !path.startsWith("test/"))
      .filter((file) => !isBesideCode(file))
      .map(({ path }) => path);
    expect(lost).toEqual([]);
  });

  test("every test belongs to a project of vitest", () => {
    const places =
      /^(shared|initrd|updater|test\/(support|vectors|integration|vm))\/|^test\/[^/]+$/;
    const tests = paths.filter((path) => path.endsWith(".test.ts"));
    expect(tests.filter((path) => !places.test(path))).toEqual([]);
  });

  test("a TODO names its issue", () => {
    const open = sources.flatMap(({ path, text }) =>
      [...text.matchAll(/\/\/.*\b(TODO|FIXME|XXX)\b(?! \(#\d+\))/g)].map(
        ([line]) => `${path}: ${line}`,
      ),
    );
    expect(open.filter((line) => !line.startsWith("test/tidy.test.ts"))).toEqual([]);
  });

  test("name no package host, no machine's own path and no secret", () => {
    const forbidden = [
      /\b(?:[\w-]+\.)*(?:npmjs\.(?:org|com)|debian\.org|pypi\.org|crates\.io|golang\.org)\b/,
      /(?<![\w/-])\/(?:work\/(?:main|shared)|home\/\w+)\b/,
      /-----BEGIN (?:\w+ )?PRIVATE KEY-----/,
      /\b(?:ghp|gho|glpat|npm)_[A-Za-z0-9]{20,}|\bAKIA[A-Z0-9]{16}\b/,
      /\w+:\/\/[^\s/:@"'$`{}]+:[^\s/@"'$`{}]+@/,
    ];
    const texts = paths.filter((path) => !/^test\/vectors\/|\.(gz|zst|img|bin|erofs)$/.test(path));
    const found = texts.flatMap((path) => {
      const text = readFileSync(join(ROOT, path), "utf8");
      return forbidden.flatMap((pattern) => {
        const match = pattern.exec(text);
        return match === null ? [] : [`${path}: ${match[0]}`];
      });
    });
    expect(found.filter((line) => !line.startsWith("test/tidy.test.ts"))).toEqual([]);
  });
});

describe("documents", () => {
  test("are what npm run docs makes", () => {
    const made = [...renderDocs()];
    const found = made.map(([path]) => [path, readFileSync(join(ROOT, path), "utf8")]);
    expect(found).toEqual(made);
  });

  test("docs/architecture.md names every folder", () => {
    const text = readFileSync(join(ROOT, "docs/architecture.md"), "utf8");
    const folders = new Set(
      paths.filter((path) => path.includes("/")).map((path) => path.split("/")[0]),
    );
    const inner = new Set(product.map(({ path }) => path.slice(0, path.lastIndexOf("/"))));
    const unnamed = [...folders, ...inner].filter((name) => !text.includes(`${name}/`));
    expect(unnamed.filter((name) => !name?.startsWith("."))).toEqual([]);
  });

  test("links between documents lead somewhere", () => {
    const broken = paths
      .filter((path) => path.endsWith(".md"))
      .flatMap((path) => {
        const links = readFileSync(join(ROOT, path), "utf8").matchAll(
          /\]\((?!https?:|#)([^)#\s]+)/g,
        );
        return [...links].map(([, link]) => [path, join(dirname(path), link!)] as const);
      })
      .filter(([, target]) => !existsSync(join(ROOT, target)));
    expect(broken).toEqual([]);
  });
});

describe("exports and files that nobody needs", () => {
  test.each([
    ["anywhere", ["--config", "knip.jsonc"]],
    ["but tests", ["--config", "test/support/knip-production.jsonc", "--production"]],
  ])("do not exist: needed by nobody %s (knip)", { timeout: 120_000 }, (_name, options) => {
    const knip = join(ROOT, "node_modules/knip/bin/knip.js");
    const { status, stdout, stderr } = spawnSync(
      join(ROOT, "node_modules/.bin/bun"),
      ["--bun", knip, ...options, "--no-progress", "--reporter=compact"],
      { cwd: ROOT, encoding: "utf8" },
    );
    expect(`${stdout}${stderr}`.trim()).toBe("");
    expect(status).toBe(0);
  });
});
