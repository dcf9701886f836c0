//! Prometheus' text format, as far as tests need to read it.

use std::collections::BTreeMap;

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series' name, `_total` and `_bucket` included.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// A label's value, empty when there is no such label.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All samples of a scrape; comments and lines that are none are left out.
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// The sum over the samples of a name whose labels have these values.
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let matching = samples.iter().filter(|sample| {
        sample.name == name && labels.iter().all(|(key, value)| sample.label(key) == *value)
    });
    matching.map(|sample| sample.value).sum()
}

fn sample(line: &str) -> Option<Sample> {
    let (series, rest) = match line.rfind('}') {
        Some(end) => line.split_at(end + 1),
        None => line.split_at(line.find(' ')?),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    // The values of the lab's labels hold no quotes and no commas.
    let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: pairs.collect(), value })
}

#[cfg(test)]
mod tests {
    use super::{samples, sum};

    #[test]
    fn reads_samples() {
        let text =
            "# TYPE a counter\na_total{x=\"1\",y=\"two\"} 3\na_total{x=\"2\",y=\"\"} 4.5\nb 1\n";
        let read = samples(text);
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].label("y"), "two");
        assert_eq!(sum(&read, "a_total", &[]), 7.5);
        assert_eq!(sum(&read, "a_total", &[("x", "2")]), 4.5);
        assert_eq!(sum(&read, "b", &[]), 1.0);
    }
}
