# What the scripts beside this file share: a folder of their own with a Go module or a Rust crate in it, and the end, at
# which what was seen has to be what is stated. A script sources this, calls `module`, writes `main.go` and `stated`, and
# calls `check`; or `crate`, `src/main.rs` and `check_crate`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# The module, which requires what the arguments name, `module@version` each.
module() {
  go mod init finding 2>go.log
  go mod edit -go=1.26.0 "${@/#/-require=}"
}

# Adds Kubernetes' own modules, which it asks for at v0.0.0, and which nobody publishes so.
staging() {
  local name
  for name in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider \
    cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client \
    cri-streaming csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator \
    kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission \
    streaming; do
    go mod edit -require="k8s.io/$name@$1"
  done
}

# Builds and runs the program; the arguments are further ones for `go build`.
check() {
  go build -mod=mod "$@" -o finding . 2>go.log || { cat go.log; exit 1; }
  ./finding >seen 2>log || { cat seen log; exit 1; }
  cat seen
  diff stated seen || { echo "this is not what $(basename "$0") states"; exit 1; }
}

# The same in Rust: a crate with the dependencies that the arguments are, lines of a manifest.
crate() {
  mkdir src
  printf '%s\n' '[package]' 'name = "finding"' 'version = "0.0.0"' 'edition = "2024"' '[dependencies]' "$@" >Cargo.toml
}

# Builds and runs the crate.
check_crate() {
  cargo build --quiet 2>cargo.log || { cat cargo.log; exit 1; }
  target/debug/finding >seen 2>log || { cat seen log; exit 1; }
  cat seen log
  diff stated seen || { echo "this is not what $(basename "$0") states"; exit 1; }
}
