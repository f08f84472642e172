// Who takes part in the pull benchmark, and how each is started. Every one works below a directory on a fresh
// file system, and leaves the image there in its own form: unpacked, ready to be started.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureImageTools } from "../../test/support/image-tools.ts";
import { EXECUTABLE } from "../build.ts";

/** host:port/repository:tag, and where on the disk to put it. */
export interface PullTask {
  readonly image: string;
  /** Is there already when this is the second version. */
  readonly disk: string;
  readonly tag: number;
}

export interface PullContender {
  readonly name: string;
  readonly argv: (task: PullTask) => readonly string[];
}

/** `registry` is a host with a port, without TLS. `scratch` outlives the runs. */
export async function makeContenders(registry: string, scratch: string): Promise<PullContender[]> {
  const settings = join(scratch, "settings");
  const home = join(settings, ".config/containers"); // where bootc looks for a policy
  mkdirSync(home, { recursive: true });
  const conf = join(settings, "registries.conf");
  writeFileSync(conf, `[[registry]]\nlocation = "${registry}"\ninsecure = true\n`);
  const policy = join(home, "policy.json");
  writeFileSync(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
  const root = await ensureImageTools();
  const inRoot = (script: string, ...args: readonly string[]) =>
    chrootScript(root, scratch, script, args);
  const fetch =
    'skopeo --policy "$3" copy -q --src-tls-verify=false "docker://$1" "oci:$2/oci:$4"\n';
  const make = (name: string, script: string): PullContender => ({
    name,
    argv: ({ image, disk, tag }) => inRoot(script, image, disk, policy, String(tag)),
  });
  return [
    {
      name: "bootc",
      argv: ({ image, disk }) => {
        const repo = join(disk, "composefs");
        const pull = `"$1" internals cfs --repo "$2" oci pull --bootable "docker://$3" bench`;
        const init = `[ -e "$2" ] || "$1" internals cfs --repo "$2" init --insecure`;
        const env = `export CONTAINERS_REGISTRIES_CONF="$4" CONTAINERS_POLICY_JSON="$5"`;
        return [
          "sh",
          "-ec",
          `${env}\n${init}\n${pull}`,
          "sh",
          EXECUTABLE,
          repo,
          image,
          conf,
          policy,
        ];
      },
    },
    make(
      "podman pull",
      'mkdir -p "$2/graph" "$2/run"\n' +
        'podman --root "$2/graph" --runroot "$2/run" --storage-driver overlay --cgroup-manager cgroupfs ' +
        'pull -q --tls-verify=false --signature-policy "$3" "$1"',
    ),
    make("skopeo + umoci", `${fetch}umoci unpack --image "$2/oci:$4" "$2/bundle$4"`),
    make("skopeo + ostree", `${fetch}${OSTREE_IMPORT}`),
  ];
}

/** One commit for each layer that is not there yet, as ostree's own import of containers has it. */
const OSTREE_IMPORT = `
repo=$2/ostree
[ -e "$repo" ] || ostree --repo="$repo" init --mode=bare
layers=$(skopeo inspect --no-tags --format '{{range .Layers}}{{println .}}{{end}}' "oci:$2/oci:$4" | cut -d: -f2)
[ -n "$layers" ]
for layer in $layers; do
  ostree --repo="$repo" rev-parse "layer/$layer" >/dev/null 2>&1 && continue
  ostree --repo="$repo" commit -b "layer/$layer" --no-bindings --tar-autocreate-parents -s layer \\
    --tree="tar=$2/oci/blobs/sha256/$layer" >/dev/null
done`;

/** As chrootCommand of the VM rig, with what is mounted below `scratch`. */
function chrootScript(
  root: string,
  scratch: string,
  script: string,
  args: readonly string[],
): string[] {
  const enter = [
    'root=$1; scratch=$2; shift 2; mkdir -p "$root$scratch"',
    'mount --bind "$root" "$root"',
    'mount --rbind /dev "$root/dev"; mount -t proc proc "$root/proc"',
    'mount --rbind /sys "$root/sys"; mount --bind /tmp "$root/tmp"',
    'mount --rbind "$scratch" "$root$scratch"',
    'exec chroot "$root" sh -ec "$@"',
  ].join("\n");
  const namespace = ["unshare", "--mount", "--propagation", "private", "--"];
  return [...namespace, "sh", "-ec", enter, "sh", root, scratch, script, "sh", ...args];
}
