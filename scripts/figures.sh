#!/bin/sh
# Makes the figures and plots of docs/scaling.md; some minutes on two cores.
set -eu
out=${1:-target/figures}
bwscan=${BWSCAN:-target/release/bwscan}
attacks=lie=2,lie=100,lie=10000,lie=1000000,favour,lie=100+favour,machine=8,machine=8+lie=100
attacks=$attacks,withhold,flood=0.1,flood=0.2,stall,stall+lie=100,helpers=0.01,helpers=0.05
attacks=$attacks,helpers=0.2,helpers=0.2+lie=100
mkdir -p "$out"

"$bwscan" simulate --utilisation 0,0.3,0.5,0.7,0.9 --scale torflow,torflow-pid,sbws,capacity \
    --plot "$out/methods" | tee "$out/methods.txt"
"$bwscan" simulate --relays 1000 --attack "$attacks" --scale torflow,capacity \
    --plot "$out/attacks" | tee "$out/attacks.txt"
"$bwscan" simulate --relays 1000 --attack "$attacks" --scale torflow --bound 0.25 | tee "$out/bound.txt"
"$bwscan" simulate --relays 1000 --attack favour,lie=100+favour --utilisation 0,0.3,0.7 --scale capacity |
    tee "$out/favour.txt"
"$bwscan" simulate --relays 8000 --scale torflow,capacity --plot "$out/large" | tee "$out/large.txt"
