//! One metric: its name, what it means, and its values. Names follow the conventions of Prometheus.

use crate::histogram::Histogram;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit as PrometheusUnit;
use serde_json::{Value, json};
use std::fmt;

/// The base unit of a metric, which ends its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    None,
    Bytes,
    Seconds,
}

/// A metric with its values.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    unit: Unit,
    help: &'static str,
    // The name of the label, if there is one.
    label: Option<&'static str>,
    values: Values,
}

// By label.
type By = Vec<(&'static str, u64)>;

#[derive(Debug)]
enum Values {
    Counter(By),
    Gauge(By),
    // The sum, and the upper bounds with the number of observations in each bucket; seconds.
    Histogram(f64, Vec<(f64, u64)>),
    Info(&'static str),
}

impl Family {
    fn new(name: &'static str, unit: Unit, help: &'static str, values: Values) -> Self {
        Self { name, unit, help, label: None, values }
    }

    pub(super) fn counter(name: &'static str, unit: Unit, help: &'static str, value: u64) -> Self {
        Self::new(name, unit, help, Values::Counter(vec![("", value)]))
    }

    pub(super) fn gauge(name: &'static str, unit: Unit, help: &'static str, value: u64) -> Self {
        Self::new(name, unit, help, Values::Gauge(vec![("", value)]))
    }

    pub(super) fn histogram(name: &'static str, help: &'static str, read: &Histogram) -> Self {
        let (sum, buckets) = read.read();
        let buckets = buckets.into_iter().map(|(bound, count)| {
            (bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64()), count)
        });
        let values = Values::Histogram(sum.as_secs_f64(), buckets.collect());
        Self::new(name, Unit::Seconds, help, values)
    }

    /// A metric whose value is the text of its label.
    pub(super) fn info(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        value: &'static str,
    ) -> Self {
        let of = Self::new(name, Unit::None, help, Values::Info(value));
        Self { label: Some(label), ..of }
    }

    /// Gives the metric a value for each value of a label, in place of the one that it has.
    pub(super) fn by(
        self,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Self {
        let values = values.into_iter();
        let values = match self.values {
            Values::Gauge(_) => Values::Gauge(values.collect()),
            _ => Values::Counter(values.collect()),
        };
        Self { label: Some(label), values, ..self }
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::None => None,
            Unit::Bytes => Some(PrometheusUnit::Bytes),
            Unit::Seconds => Some(PrometheusUnit::Seconds),
        };
        let kind = match &self.values {
            Values::Counter(_) => MetricType::Counter,
            Values::Gauge(_) => MetricType::Gauge,
            Values::Histogram(..) => MetricType::Histogram,
            Values::Info(_) => MetricType::Info,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        let label = self.label.unwrap_or_default();
        match &self.values {
            Values::Counter(values) => {
                for (value_of_label, value) in values {
                    if label.is_empty() {
                        metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    } else {
                        let labels = [(label, *value_of_label)];
                        let mut one = metric.encode_family(&labels)?;
                        one.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    }
                }
            }
            Values::Gauge(values) => {
                for (value_of_label, value) in values {
                    if label.is_empty() {
                        metric.encode_gauge(value)?;
                    } else {
                        metric.encode_family(&[(label, *value_of_label)])?.encode_gauge(value)?;
                    }
                }
            }
            Values::Histogram(sum, buckets) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
            }
            Values::Info(value) => metric.encode_info(&[(label, *value)])?,
        }
        Ok(())
    }

    /// The name in a scrape, with its unit and suffix.
    pub(super) fn full_name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Bytes => "_bytes",
            Unit::Seconds => "_seconds",
        };
        let suffix = match &self.values {
            Values::Counter(_) => "_total",
            Values::Info(_) => "_info",
            Values::Gauge(_) | Values::Histogram(..) => "",
        };
        format!("{}{unit}{suffix}", self.name)
    }

    /// The values as JSON: a number or text; by label, an object of them; of a histogram, its sum and
    /// its number of observations.
    pub(super) fn json(&self) -> Value {
        match &self.values {
            Values::Counter(values) | Values::Gauge(values) => match (self.label, &values[..]) {
                (None, [(_, value)]) => (*value).into(),
                _ => values
                    .iter()
                    .map(|(of, value)| ((*of).to_owned(), Value::from(*value)))
                    .collect(),
            },
            Values::Histogram(sum, buckets) => {
                let count: u64 = buckets.iter().map(|(_, count)| count).sum();
                json!({ "sum": sum, "count": count })
            }
            Values::Info(value) => (*value).into(),
        }
    }

    /// The row of `docs/metrics.md`.
    #[cfg(test)]
    pub(super) fn row(&self) -> String {
        let kind = match &self.values {
            Values::Counter(_) => "counter",
            Values::Gauge(_) => "gauge",
            Values::Histogram(..) => "histogram",
            Values::Info(_) => "info",
        };
        let values: Vec<_> = match &self.values {
            Values::Counter(values) | Values::Gauge(values) => {
                values.iter().map(|(of, _)| *of).collect()
            }
            _ => Vec::new(),
        };
        let label = match (self.label, values.len()) {
            (None, _) => String::new(),
            // Their own pages list those of limits and codes.
            (Some(label), 0) | (Some(label @ ("limit" | "code")), _) => format!("`{label}`"),
            (Some(label), _) => format!("`{label}`: {}", values.join(", ")),
        };
        format!("| `{}` | {kind} | {label} | {} |", self.full_name(), self.help)
    }
}
