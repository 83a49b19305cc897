//! Batches without some of their rows.

use arrow_array::{Array, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take;
use logql::{EntryBatch, Metadata};

/// Some rows of a batch, by their places.
pub(crate) fn rows(batch: &EntryBatch, rows: Vec<u32>) -> Result<EntryBatch, ArrowError> {
    let rows = UInt32Array::from(rows);
    let columns = batch.metadata.columns.iter();
    let columns = columns.map(|(name, values)| Ok::<_, ArrowError>((name.clone(), only(values, &rows)?)));
    let metadata = Metadata {
        columns: columns.collect::<Result<_, _>>()?,
        rest: batch.metadata.rest.as_ref().map(|rest| only(rest, &rows)).transpose()?,
    };
    Ok(EntryBatch {
        labels: batch.labels.clone(),
        timestamps: only(&batch.timestamps, &rows)?,
        lines: batch.lines.take(&rows)?,
        metadata,
    })
}

fn only<A: Array + Clone + 'static>(array: &A, rows: &UInt32Array) -> Result<A, ArrowError> {
    let taken = take(array, rows, None)?;
    let same = taken.as_any().downcast_ref::<A>().cloned();
    same.ok_or_else(|| ArrowError::CastError("values changed their type when some were taken".to_owned()))
}
