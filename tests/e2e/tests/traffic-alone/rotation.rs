//! The webhook's certificate is replaced again and again while pods are made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi_kube::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use weft_e2e::{Client, Cluster, Namespace, eventually, figure, helm, node, run, times, web};
use weft_tests::lab::metrics::{samples, sum};

/// The least that the injector takes: it is renewed every 7 s or so.
const VALIDITY: &str = "10s";
/// How often each replica must begin to serve another certificate. The default keeps the run short.
const ROTATIONS: &str = "WEFT_E2E_ROTATIONS";
/// Between two pods, of each of two makers.
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn the_certificate_rotates_without_one_failed_admission() {
    run("rotation", async |cluster| {
        if !node::is_own() {
            println!(
                "rotation: skipped, as the chart of KUBECONFIG's cluster is not ours to change"
            );
            return Ok(());
        }
        let wanted = times(ROTATIONS, 5)? as f64;
        let shop = cluster.namespace("shop").await?;
        let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
        let rotate = async {
            let rotated = rotate(cluster, wanted).await;
            over.store(true, Ordering::Relaxed);
            rotated
        };
        // The change of the chart, by which the injector's pods are replaced, is among what it stands.
        let makers = [make_pods(&shop, &over, &made), make_pods(&shop, &over, &made)];
        let [one, other] = makers;
        let (rotated, one, other) = tokio::join!(rotate, one, other);
        rotated?;
        let failures: Vec<String> = one.into_iter().chain(other).collect();
        let made = made.load(Ordering::Relaxed);
        let admitted = format!("{made} pods admitted, {} failed", failures.len());
        figure("while the injector's certificate rotates", &admitted, "0 failed")?;
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    });
}

/// Lets the certificate rotate, with short-lived ones, and puts back what was there.
async fn rotate(cluster: &Cluster, wanted: f64) -> Result<()> {
    let short =
        format!("injector.env[0].name=WEFT_CERTIFICATE_VALIDITY,injector.env[0].value={VALIDITY}");
    let began = Instant::now();
    helm(&["install"], &format!("--set-string {short}")).await?;
    println!("rotation: chart changed after {:.0?}", began.elapsed());
    let began = Instant::now();
    let rotated = eventually(Duration::from_secs(600), "the rotations", async || {
        let counts = rotations(cluster).await?;
        ensure!(counts.iter().all(|count| *count >= wanted), "{counts:?}");
        Ok(counts)
    })
    .await;
    let ended = began.elapsed();
    helm(&["install"], "").await?;
    println!("rotation: {:?} rotations in {ended:.0?}", rotated?);
    Ok(())
}

/// Makes pods, as admission sees them: of a dry run nothing stays. Returns what went wrong.
async fn make_pods(shop: &Namespace, over: &AtomicBool, made: &AtomicU64) -> Vec<String> {
    let pods: Api<Pod> = shop.api();
    let mut failures = Vec::new();
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let name = format!("pod-{}", made.fetch_add(1, Ordering::Relaxed));
        let admitted = async {
            let pod = serde_json::from_value(Client::named(&name).object())?;
            let pod = pods.create(&parameters, &pod).await?;
            let injected = pod.spec.and_then(|spec| spec.init_containers);
            ensure!(injected.is_some_and(|all| all.len() == 2), "it is not injected");
            Ok(())
        };
        if let Err(error) = admitted.await {
            failures.push(format!("{name} after {:.1?}: {error:#}", began.elapsed()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    failures
}

/// How often each replica of the injector has begun to serve another certificate.
async fn rotations(cluster: &Cluster) -> Result<Vec<f64>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "weft-system");
    let injectors = ListParams::default().labels("app.kubernetes.io/name=weft-injector");
    let mut counts = Vec::new();
    for pod in pods.list(&injectors).await? {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let address = pod.status.and_then(|status| status.pod_ip).context("no address")?;
        let (_, text) = web::get(&format!("http://{address}:8080/metrics")).await?;
        counts.push(sum(&samples(&text), "weft_injector_certificate_rotations_total", &[]));
    }
    ensure!(!counts.is_empty(), "no injector");
    Ok(counts)
}
