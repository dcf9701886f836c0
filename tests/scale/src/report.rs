//! What was seen, as a page and as data, in the form of `make bench`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use weft_bench::figure;

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) services: usize,
    pub(crate) routes: usize,
    pub(crate) endpoints: usize,
    measures: Vec<Measure>,
}

/// A figure, as `make bench` writes it; there are no peers here.
#[derive(Debug, Serialize)]
struct Measure {
    name: String,
    unit: &'static str,
    weft: f64,
    peers: BTreeMap<String, f64>,
    asked: Vec<Bound>,
    /// Null where nothing is asked.
    met: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Bound {
    asked: String,
    met: bool,
}

impl Report {
    pub(crate) fn new(services: usize, routes: usize, endpoints: usize) -> Report {
        Report { services, routes, endpoints, measures: Vec::new() }
    }

    /// Adds a figure of which nothing is asked.
    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &'static str, weft: f64) {
        self.push(name.into(), unit, weft, Vec::new());
    }

    /// Adds a figure with its upper bound.
    pub(crate) fn asked(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        weft: f64,
        most: f64,
    ) {
        let bound = Bound { asked: format!("≤ {most} {unit}"), met: weft <= most };
        self.push(name.into(), unit, weft, vec![bound]);
    }

    fn push(&mut self, name: String, unit: &'static str, weft: f64, asked: Vec<Bound>) {
        let met = (!asked.is_empty()).then(|| asked.iter().all(|bound| bound.met));
        self.measures.push(Measure { name, unit, weft, peers: BTreeMap::new(), asked, met });
    }

    /// Writes `report.md` and `report.json`, and prints the page.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let page = self.page()?;
        fs::write(folder.join("report.md"), &page)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(self)? + "\n")?;
        let asked: Vec<bool> = self.measures.iter().filter_map(|measure| measure.met).collect();
        let met = asked.iter().filter(|met| **met).count();
        println!(
            "{page}\n{met} of {} asked figures are met; written to {}",
            asked.len(),
            folder.display()
        );
        Ok(())
    }

    fn page(&self) -> Result<String> {
        let mut page = String::from("# A sidecar in a large cluster\n\n");
        let Report { services, routes, endpoints, .. } = self;
        writeln!(
            page,
            "A real kube-apiserver holds {services} Services, {routes} HTTPRoutes and {endpoints} \
             endpoints, {} Services\n\
             and their routes in a namespace. The pod uses some of the Services, each in a namespace \
             of its own,\n\
             the first one with {} endpoints; each is split between itself and a neighbour.\n\n\
             An edit's time is counted from the API server's answer to the write. To its effect: to \
             the first\n\
             answer of a Service that shows it, to an application that asks every millisecond. \
             Resident memory\n\
             is VmRSS of proc(5), the peak VmHWM.\n",
            crate::objects::IN_NAMESPACE,
            crate::objects::MANY,
        )?;
        writeln!(page, "| measure | Weft | asked | |\n|---|---:|---|---|")?;
        for Measure { name, unit, weft, asked, met, .. } in &self.measures {
            let asked: Vec<&str> = asked.iter().map(|bound| bound.asked.as_str()).collect();
            let met = match met {
                Some(true) => "met",
                Some(false) => "**not met**",
                None => "",
            };
            writeln!(page, "| {name} | {} {unit} | {} | {met} |", figure(*weft), asked.join("; "))?;
        }
        Ok(page)
    }
}
