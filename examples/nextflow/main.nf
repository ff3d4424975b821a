// A plan of two passes, as processes of Nextflow:
//   nextflow run main.nf --options "--census /data/census --organism homo_sapiens --recipe cp10k --memory 4GB" --shards 64 --out /data/x.h5ad
// The run's folder is on a file system that all share; processes pass its name on.
nextflow.enable.dsl = 2
params.run = "${launchDir}/run"

process plan {
    output: val true
    script: "headrace plan ${params.options} --shards ${params.shards} --out ${params.run}"
}
process first {
    input: tuple val(ready), val(shard)
    output: val shard
    script: "headrace work ${params.run} --shard ${shard}"
}
process merge {
    input: val shards
    output: val true
    script: "headrace merge ${params.run}"
}
process second {
    input: tuple val(ready), val(shard)
    output: val shard
    script: "headrace work ${params.run} --shard ${shard}"
}
process assemble {
    input: val shards
    script: "headrace assemble ${params.run} --out ${params.out} --overwrite"
}
workflow {
    shards = Channel.of(0..<(params.shards as int))
    first(plan().combine(shards))
    second(merge(first.out.collect()).combine(shards))
    assemble(second.out.collect())
}
