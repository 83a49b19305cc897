//! Pipelines: spansets and their operators, stages, metrics, hints.

use super::Parser;
use super::expr::keyword;
use super::lexer::Tok;
use crate::ast::{
    Aggregate, BinaryOp, Expr, Field, MetricsFunction, MetricsStage, Pipeline, Query, Relation, Scalar,
    SecondStage, SpansetExpr, SpansetOp, Stage,
};
use crate::error::ParseError;
use crate::value::Value;

/// What can stand at the beginning of a pipeline.
enum First {
    /// `piped` if some operand is a pipeline in parentheses; nothing may then be piped behind it.
    Spans {
        expr: SpansetExpr,
        piped: bool,
    },
    Stage(Stage),
    /// A number that is compared with nothing: only legal in parentheses.
    Scalar(Scalar),
}

/// What parentheses hold.
enum Paren {
    Spans { expr: SpansetExpr, piped: bool },
    Scalar(Scalar),
}

const COMPARISONS: [(&str, BinaryOp); 6] = [
    ("=", BinaryOp::Eq),
    ("!=", BinaryOp::Ne),
    ("<=", BinaryOp::Le),
    ("<", BinaryOp::Lt),
    (">=", BinaryOp::Ge),
    (">", BinaryOp::Gt),
];

const LOGICAL: [(&str, SpansetOp); 2] = [("&&", SpansetOp::And), ("||", SpansetOp::Or)];

const STRUCTURAL: [(&str, SpansetOp); 15] = [
    (">", structural(Relation::Child, false, false)),
    (">>", structural(Relation::Descendant, false, false)),
    ("<", structural(Relation::Parent, false, false)),
    ("<<", structural(Relation::Ancestor, false, false)),
    ("~", structural(Relation::Sibling, false, false)),
    ("!>", structural(Relation::Child, true, false)),
    ("!>>", structural(Relation::Descendant, true, false)),
    ("!<", structural(Relation::Parent, true, false)),
    ("!<<", structural(Relation::Ancestor, true, false)),
    ("!~", structural(Relation::Sibling, true, false)),
    ("&>", structural(Relation::Child, false, true)),
    ("&>>", structural(Relation::Descendant, false, true)),
    ("&<", structural(Relation::Parent, false, true)),
    ("&<<", structural(Relation::Ancestor, false, true)),
    ("&~", structural(Relation::Sibling, false, true)),
];

const fn structural(relation: Relation, negated: bool, union: bool) -> SpansetOp {
    SpansetOp::Structural { relation, negated, union }
}

impl Parser<'_> {
    /// A whole query.
    pub(super) fn query(&mut self) -> Result<Query, ParseError> {
        let (pipeline, can_pipe) = match self.first(true)? {
            First::Spans { expr, piped } => (Pipeline { stages: vec![Stage::Spansets(expr)] }, !piped),
            First::Stage(stage) => (Pipeline { stages: vec![stage] }, true),
            First::Scalar(_) => return Err(self.unexpected("")),
        };
        let mut query = Query { pipeline, metrics: None, second: Vec::new(), hints: Vec::new() };
        while can_pipe && query.metrics.is_none() && self.take("|") {
            match self.metrics_stage()? {
                Some(metrics) => query.metrics = Some(metrics),
                None => match self.stage()? {
                    Ok(stage) => query.pipeline.stages.push(stage),
                    Err(_) => return Err(self.unexpected("")),
                },
            }
        }
        if query.metrics.is_some() {
            self.second_stages(&mut query.second)?;
        }
        while self.take_word("with") {
            query.hints = self.hints()?;
        }
        if !matches!(self.peek(), Tok::End) {
            return Err(self.unexpected("with"));
        }
        Ok(query)
    }

    /// The first thing of a pipeline. `pipes`: whether pipelines in parentheses may stand here.
    fn first(&mut self, pipes: bool) -> Result<First, ParseError> {
        match self.peek() {
            Tok::Symbol("{") => {
                let left = self.filter()?;
                self.spanset_rest(left, false, pipes)
            }
            Tok::Symbol("(") => match self.paren(pipes)? {
                Paren::Spans { expr, piped } => self.spanset_rest(expr, piped, pipes),
                Paren::Scalar(scalar) => self.scalar_filter(scalar),
            },
            Tok::Word("by") => {
                self.next();
                self.expect("(")?;
                let by = self.expr()?;
                self.expect(")")?;
                Ok(First::Stage(Stage::GroupBy(by)))
            }
            Tok::Word("select") => {
                self.next();
                Ok(First::Stage(Stage::Select(self.field_list()?)))
            }
            _ => {
                let scalar = self.scalar_operand()?;
                self.scalar_filter(scalar)
            }
        }
    }

    /// A later stage; a bare scalar comes back as `Err` for parentheses to take.
    fn stage(&mut self) -> Result<Result<Stage, Scalar>, ParseError> {
        if self.take_word("coalesce") {
            self.expect("(")?;
            self.expect(")")?;
            return Ok(Ok(Stage::Coalesce));
        }
        Ok(match self.first(false)? {
            First::Spans { expr, .. } => Ok(Stage::Spansets(expr)),
            First::Stage(stage) => Ok(stage),
            First::Scalar(scalar) => Err(scalar),
        })
    }

    fn filter(&mut self) -> Result<SpansetExpr, ParseError> {
        self.expect("{")?;
        if self.take("}") {
            return Ok(SpansetExpr::Filter(Expr::Literal(Value::Bool(true))));
        }
        let expr = self.expr()?;
        self.expect("}")?;
        Ok(SpansetExpr::Filter(expr))
    }

    /// What follows a spanset: structural operators first, then `&&` and `||`, each left to right. Behind an
    /// operand without a pipe, an operand with one is refused, as Tempo's grammar does.
    fn spanset_rest(&mut self, left: SpansetExpr, piped: bool, pipes: bool) -> Result<First, ParseError> {
        let (mut left, mut piped) = self.structural_rest(left, piped, pipes)?;
        while let Some(op) = self.operator(&LOGICAL)? {
            let (right, right_piped) = self.spanset_operand(pipes && piped)?;
            let (right, right_piped) = self.structural_rest(right, right_piped, pipes && piped)?;
            left = SpansetExpr::Op(op, Box::new(left), Box::new(right));
            piped |= right_piped;
        }
        Ok(First::Spans { expr: left, piped })
    }

    fn structural_rest(
        &mut self,
        mut left: SpansetExpr,
        mut piped: bool,
        pipes: bool,
    ) -> Result<(SpansetExpr, bool), ParseError> {
        while let Some(op) = self.operator(&STRUCTURAL)? {
            let (right, right_piped) = self.spanset_operand(pipes && piped)?;
            left = SpansetExpr::Op(op, Box::new(left), Box::new(right));
            piped |= right_piped;
        }
        Ok((left, piped))
    }

    fn spanset_operand(&mut self, pipes: bool) -> Result<(SpansetExpr, bool), ParseError> {
        match self.peek() {
            Tok::Symbol("{") => Ok((self.filter()?, false)),
            Tok::Symbol("(") => match self.paren(pipes)? {
                Paren::Spans { expr, piped } => Ok((expr, piped)),
                Paren::Scalar(_) => Err(self.unexpected("{ or (")),
            },
            _ => Err(self.unexpected("{ or (")),
        }
    }

    fn paren(&mut self, pipes: bool) -> Result<Paren, ParseError> {
        self.nested(|p| {
            p.expect("(")?;
            let mut stages = Vec::new();
            match p.first(pipes)? {
                First::Spans { expr, piped } => {
                    if piped || !pipes || !matches!(p.peek(), Tok::Symbol("|")) {
                        p.expect(")")?;
                        return Ok(Paren::Spans { expr, piped });
                    }
                    stages.push(Stage::Spansets(expr));
                }
                First::Stage(stage) => stages.push(stage),
                First::Scalar(scalar) => {
                    p.expect(")")?;
                    return Ok(Paren::Scalar(scalar));
                }
            }
            while p.take("|") {
                match p.stage()? {
                    Ok(stage) => stages.push(stage),
                    Err(_) => {
                        p.expect(")")?;
                        return Ok(Paren::Scalar(Scalar::Pipeline(Pipeline { stages })));
                    }
                }
            }
            p.expect(")")?;
            Ok(Paren::Spans { expr: SpansetExpr::Pipeline(Pipeline { stages }), piped: true })
        })
    }

    fn scalar_filter(&mut self, left: Scalar) -> Result<First, ParseError> {
        let left = self.scalar_rest(left, 0)?;
        let Some(op) = self.operator(&COMPARISONS)? else {
            if matches!(self.peek(), Tok::Symbol(")")) {
                return Ok(First::Scalar(left));
            }
            return Err(self.unexpected(""));
        };
        let right = self.scalar_operand()?;
        let right = self.scalar_rest(right, 0)?;
        Ok(First::Stage(Stage::Scalar(op, left, right)))
    }

    /// Arithmetic behind a scalar, operators of at least `level`.
    fn scalar_rest(&mut self, mut left: Scalar, level: u8) -> Result<Scalar, ParseError> {
        loop {
            let (op, op_level) = match self.peek() {
                Tok::Symbol("+") => (BinaryOp::Add, 1),
                Tok::Symbol("-") => (BinaryOp::Sub, 1),
                Tok::Symbol("*") => (BinaryOp::Mul, 2),
                Tok::Symbol("/") => (BinaryOp::Div, 2),
                Tok::Symbol("%") => (BinaryOp::Mod, 2),
                Tok::Symbol("^") => (BinaryOp::Pow, 3),
                _ => return Ok(left),
            };
            if op_level < level {
                return Ok(left);
            }
            self.next();
            self.count_operator()?;
            let right = self.scalar_operand()?;
            let next_level = if op == BinaryOp::Pow { op_level } else { op_level + 1 };
            let right = self.nested(|p| p.scalar_rest(right, next_level))?;
            left = Scalar::Op(op, Box::new(left), Box::new(right));
        }
    }

    fn scalar_operand(&mut self) -> Result<Scalar, ParseError> {
        match self.peek().clone() {
            Tok::Symbol("(") => match self.paren(true)? {
                Paren::Scalar(scalar) => Ok(scalar),
                Paren::Spans { .. } => Err(self.unexpected("")),
            },
            Tok::Symbol("-") | Tok::Int(_) | Tok::Float(_) | Tok::Duration(_) => {
                self.signed_number().map(Scalar::Literal)
            }
            Tok::Word("count") => {
                self.next();
                self.expect("(")?;
                self.expect(")")?;
                Ok(Scalar::Aggregate(Aggregate::Count))
            }
            Tok::Word(word @ ("min" | "max" | "sum" | "avg")) => {
                self.next();
                self.expect("(")?;
                let argument = self.expr()?;
                self.expect(")")?;
                Ok(Scalar::Aggregate(match word {
                    "min" => Aggregate::Min(argument),
                    "max" => Aggregate::Max(argument),
                    "sum" => Aggregate::Sum(argument),
                    _ => Aggregate::Avg(argument),
                }))
            }
            _ => Err(self.unexpected("")),
        }
    }

    fn signed_number(&mut self) -> Result<Value, ParseError> {
        let negative = self.take("-");
        let value = match *self.peek() {
            Tok::Int(i) => Value::Int(if negative { -i } else { i }),
            Tok::Float(f) => Value::Float(if negative { -f } else { f }),
            Tok::Duration(d) => Value::Duration(if negative { -d } else { d }),
            _ => return Err(self.unexpected("")),
        };
        self.next();
        Ok(value)
    }

    fn metrics_stage(&mut self) -> Result<Option<MetricsStage>, ParseError> {
        let Tok::Word(word) = *self.peek() else { return Ok(None) };
        let known = matches!(
            word,
            "rate"
                | "count_over_time"
                | "min_over_time"
                | "max_over_time"
                | "sum_over_time"
                | "avg_over_time"
                | "histogram_over_time"
                | "quantile_over_time"
                | "compare"
        );
        if !known {
            return Ok(None);
        }
        self.next();
        self.expect("(")?;
        let function = match word {
            "rate" => MetricsFunction::Rate,
            "count_over_time" => MetricsFunction::CountOverTime,
            "compare" => return self.compare().map(Some),
            _ => {
                let field = self.field()?;
                match word {
                    "min_over_time" => MetricsFunction::MinOverTime(field),
                    "max_over_time" => MetricsFunction::MaxOverTime(field),
                    "sum_over_time" => MetricsFunction::SumOverTime(field),
                    "avg_over_time" => MetricsFunction::AvgOverTime(field),
                    "histogram_over_time" => MetricsFunction::HistogramOverTime(field),
                    _ => {
                        let mut quantiles = Vec::new();
                        self.expect(",")?;
                        loop {
                            quantiles.push(match *self.peek() {
                                Tok::Int(i) => i as f64,
                                Tok::Float(f) => f,
                                _ => return Err(self.unexpected("INTEGER or FLOAT")),
                            });
                            self.next();
                            if !self.take(",") {
                                break;
                            }
                        }
                        MetricsFunction::QuantileOverTime(field, quantiles)
                    }
                }
            }
        };
        self.expect(")")?;
        let by = if self.take_word("by") { self.field_list()? } else { Vec::new() };
        Ok(Some(MetricsStage { function, by }))
    }

    fn compare(&mut self) -> Result<MetricsStage, ParseError> {
        let SpansetExpr::Filter(selection) = self.filter()? else { return Err(self.unexpected("{")) };
        let mut top = 10;
        let mut window = None;
        if self.take(",") {
            top = self.integer()?;
            if self.take(",") {
                let start = self.integer()?;
                self.expect(",")?;
                window = Some((start, self.integer()?));
            }
        }
        self.expect(")")?;
        Ok(MetricsStage { function: MetricsFunction::Compare { selection, top, window }, by: Vec::new() })
    }

    fn integer(&mut self) -> Result<i64, ParseError> {
        match *self.peek() {
            Tok::Int(i) => {
                self.next();
                Ok(i)
            }
            _ => Err(self.unexpected("INTEGER")),
        }
    }

    fn second_stages(&mut self, out: &mut Vec<SecondStage>) -> Result<(), ParseError> {
        loop {
            if self.take("|") {
                let top = match self.peek() {
                    Tok::Word("topk") => true,
                    Tok::Word("bottomk") => false,
                    _ => return Err(self.unexpected("topk or bottomk")),
                };
                self.next();
                self.expect("(")?;
                let n = self.integer()?;
                self.expect(")")?;
                out.push(if top { SecondStage::TopK(n) } else { SecondStage::BottomK(n) });
            } else if let Some(op) = self.operator(&COMPARISONS)? {
                out.push(SecondStage::Filter(op, self.signed_number()?));
            } else {
                return Ok(());
            }
        }
    }

    fn hints(&mut self) -> Result<Vec<(String, Value)>, ParseError> {
        self.expect("(")?;
        let mut out = Vec::new();
        loop {
            let Tok::Word(name) = *self.peek() else { return Err(self.unexpected("IDENTIFIER")) };
            self.next();
            self.expect("=")?;
            let value = match self.peek().clone() {
                Tok::Str(s) => Value::str(s),
                Tok::Int(i) => Value::Int(i),
                Tok::Float(f) => Value::Float(f),
                Tok::Duration(d) => Value::Duration(d),
                Tok::Word(word) => match keyword(word) {
                    Some(value) => value,
                    None => return Err(self.unexpected("")),
                },
                _ => return Err(self.unexpected("")),
            };
            self.next();
            out.push((name.to_owned(), value));
            if !self.take(",") {
                self.expect(")")?;
                return Ok(out);
            }
        }
    }

    fn field_list(&mut self) -> Result<Vec<Field>, ParseError> {
        self.expect("(")?;
        let mut fields = vec![self.field()?];
        loop {
            if self.take(",") {
                fields.push(self.field()?);
            } else if self.take(")") {
                return Ok(fields);
            } else {
                return Err(self.unexpected(") or ,"));
            }
        }
    }
}
